//! Results in the pages people read: tables between markers of a Markdown page, plots and the
//! raw figures beside it. All of it is made from the figures, each time and for every row. What
//! stands outside of the markers stays as it is.

use std::fs;
use std::path::Path;

use crate::drivers;
use crate::plot;
use crate::results::{Results, RowResult};
use crate::table;

const END: &str = "<!-- end -->";

/// The longest line outside of tables, in characters.
const LINE_MAX: usize = 120;

/// Merges `rows` into `FOLDER/benchmarks.md` and `FOLDER/benchmarks/`.
///
/// # Errors
///
/// A file cannot be read or written, or the page has no place for a row.
pub fn write(folder: &Path, rows: &[(&str, RowResult)]) -> Result<(), String> {
    let page_path = folder.join("benchmarks.md");
    let results_path = folder.join("benchmarks/results.json");
    let mut results = read_results(&results_path)?;
    for (name, row) in rows {
        results.rows.insert((*name).to_owned(), row.clone());
    }
    let page = fill(&read(&page_path)?, &results)?;
    for (name, row) in &results.rows {
        save(&folder.join(format!("benchmarks/{name}.svg")), &plot::bars(row)?)?;
    }
    let json = serde_json::to_string(&results).map_err(|error| error.to_string())?;
    save(&results_path, &(json + "\n"))?;
    save(&page_path, &page)
}

/// The page with everything between markers made from `results`.
fn fill(page: &str, results: &Results) -> Result<String, String> {
    let drivers = format!("{}\n", drivers::render(results));
    let mut page = replace(page, "drivers", &drivers)?;
    for (name, row) in &results.rows {
        page = replace(&page, &format!("row {name}"), &section(name, row))?;
    }
    Ok(page)
}

/// What stands between the markers of a row.
fn section(name: &str, row: &RowResult) -> String {
    let mut notes: String =
        row.notes.iter().map(|note| wrap(&format!("- {note}"), "  ") + "\n").collect();
    if !notes.is_empty() {
        notes.push('\n');
    }
    let command = wrap(&format!("`{}`\\", row.command), "");
    let machine =
        wrap(&format!("{} rounds of {} s; {}", row.rounds(), row.seconds, row.machine), "");
    format!(
        "{}\n\n{notes}![{}](benchmarks/{name}.svg)\n\n{command}\n{machine}\n",
        table::render(row),
        row.title,
    )
}

/// `text` in lines of at most [`LINE_MAX`] characters, broken at spaces; `indent` begins each but
/// the first.
fn wrap(text: &str, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a last one");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= LINE_MAX {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(format!("{indent}{word}"));
        }
    }
    lines.join("\n")
}

/// The page with something else between the markers called `name`.
fn replace(page: &str, name: &str, text: &str) -> Result<String, String> {
    let begin = format!("<!-- {name} -->");
    let parts = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or_else(|| format!("the page has no {begin} … {END}"))?;
    Ok(format!("{before}{begin}\n{text}{END}{after}"))
}

fn read_results(path: &Path) -> Result<Results, String> {
    if !path.exists() {
        return Ok(Results::default());
    }
    let text = read(path)?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn save(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().expect("a file lies in a folder");
    let saved = fs::create_dir_all(folder).and_then(|()| fs::write(path, text));
    saved.map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::row;
    use crate::row::ROWS;

    const PAGE: &str = "# Page\n\n<!-- row echo-64 -->\nold\n<!-- end -->\n\nprose\n\n\
                        <!-- row memory -->\n<!-- end -->\ntail\n\
                        <!-- drivers -->\n<!-- end -->\n";

    /// Where the page of this repository is.
    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = replace(PAGE, "row echo-64", "new\n").unwrap();
        assert_eq!(page, PAGE.replace("old\n", "new\n"));
        let page = replace(&page, "row memory", "bytes\n").unwrap();
        assert!(page.contains("<!-- row memory -->\nbytes\n<!-- end -->\ntail\n"), "{page}");
    }

    #[test]
    fn a_page_without_the_markers_is_refused() {
        replace(PAGE, "row rate", "new\n").unwrap_err();
        replace("<!-- row rate -->\n", "row rate", "new\n").unwrap_err();
        fill("no markers", &Results::default()).unwrap_err();
    }

    /// Fails when a table was changed by hand, when a row has no place, and when the format has
    /// changed: `ringwire-compare --rewrite docs` makes the page anew.
    #[test]
    fn the_page_is_what_the_figures_say() {
        let folder = Path::new(DOCS);
        let page = read(&folder.join("benchmarks.md")).unwrap();
        let results = read_results(&folder.join("benchmarks/results.json")).unwrap();
        assert!(!results.rows.is_empty());
        assert!(fill(&page, &results).unwrap() == page, "ringwire-compare --rewrite docs");
        for row in &ROWS {
            replace(&page, &format!("row {}", row.name), "").unwrap();
        }
    }

    #[test]
    fn long_lines_are_broken_at_spaces_and_nothing_is_lost() {
        let text = "- ".to_owned() + &"word ".repeat(100) + &"x".repeat(200) + " end";
        let wrapped = wrap(&text, "  ");
        assert_eq!(wrapped.split_whitespace().collect::<Vec<_>>(), {
            text.split_whitespace().collect::<Vec<_>>()
        });
        let lines: Vec<&str> = wrapped.lines().collect();
        assert!(lines[1..].iter().all(|line| line.starts_with("  ")), "{wrapped}");
        let long = lines.iter().filter(|line| line.chars().count() > LINE_MAX);
        assert_eq!(long.count(), 1, "only the word that is longer: {wrapped}");
        assert_eq!(wrap("short", "  "), "short");
    }

    #[test]
    fn a_section_has_all_that_a_reader_needs() {
        let section = section("echo-64", &row());
        for part in ["**1.20**", "- bun was left out", "echo-64.svg", "--row echo-64", "2 rounds"] {
            assert!(section.contains(part), "{part:?} in {section}");
        }
    }

    #[test]
    fn a_row_can_be_written_again_and_the_others_stay() {
        let folder = std::env::temp_dir().join(format!("ringwire-document-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("benchmarks.md"), PAGE).unwrap();
        write(&folder, &[("echo-64", row())]).unwrap();
        write(&folder, &[("memory", row())]).unwrap();
        write(&folder, &[("memory", row())]).unwrap();
        let results = read_results(&folder.join("benchmarks/results.json")).unwrap();
        assert_eq!(results.rows.keys().collect::<Vec<_>>(), ["echo-64", "memory"]);
        let page = fs::read_to_string(folder.join("benchmarks.md")).unwrap();
        assert_eq!(page.matches("**1.20**").count(), 2);
        assert!(folder.join("benchmarks/memory.svg").exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
