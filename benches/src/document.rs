//! Results in the pages people read: tables between markers of a Markdown page, plots and the
//! raw figures beside it. What stands outside of the markers is never touched.

use std::fs;
use std::path::Path;

use crate::plot;
use crate::results::{Results, RowResult};
use crate::table;

const END: &str = "<!-- end -->";

/// Merges `rows` into `FOLDER/benchmarks.md` and `FOLDER/benchmarks/`.
///
/// # Errors
///
/// A file cannot be read or written, or the page has no place for a row.
pub fn write(folder: &Path, rows: &[(&str, RowResult)]) -> Result<(), String> {
    let page_path = folder.join("benchmarks.md");
    let results_path = folder.join("benchmarks/results.json");
    let mut results = read_results(&results_path)?;
    let mut page = read(&page_path)?;
    for (name, row) in rows {
        page = replace(&page, name, &section(name, row))?;
        save(&folder.join(format!("benchmarks/{name}.svg")), &plot::bars(row)?)?;
        results.rows.insert((*name).to_owned(), row.clone());
    }
    let json = serde_json::to_string(&results).map_err(|error| error.to_string())?;
    save(&results_path, &(json + "\n"))?;
    save(&page_path, &page)
}

/// What stands between the markers of a row.
fn section(name: &str, row: &RowResult) -> String {
    let mut notes: String = row.notes.iter().map(|note| format!("- {note}\n")).collect();
    if !notes.is_empty() {
        notes.push('\n');
    }
    let rounds = row.rounds();
    format!(
        "{}\n\n{notes}![{}](benchmarks/{name}.svg)\n\n`{}`\\\n{rounds} rounds of {} s; {}\n",
        table::render(row),
        row.title,
        row.command,
        row.seconds,
        row.machine
    )
}

/// The page with another section for a row.
fn replace(page: &str, name: &str, section: &str) -> Result<String, String> {
    let begin = format!("<!-- row {name} -->");
    let parts = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or_else(|| format!("the page has no {begin} … {END}"))?;
    Ok(format!("{before}{begin}\n{section}{END}{after}"))
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

    const PAGE: &str = "# Page\n\n<!-- row echo-64 -->\nold\n<!-- end -->\n\nprose\n\n\
                        <!-- row memory -->\n<!-- end -->\ntail\n";

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = replace(PAGE, "echo-64", "new\n").unwrap();
        assert_eq!(page, PAGE.replace("old\n", "new\n"));
        let page = replace(&page, "memory", "bytes\n").unwrap();
        assert!(page.ends_with("<!-- row memory -->\nbytes\n<!-- end -->\ntail\n"), "{page}");
    }

    #[test]
    fn a_page_without_the_markers_is_refused() {
        replace(PAGE, "rate", "new\n").unwrap_err();
        replace("<!-- row rate -->\n", "rate", "new\n").unwrap_err();
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
