//! Compares Ringwire's examples, on either driver, with other servers, row by row: the servers on one core, the
//! clients on others, in turn, every byte compared. Losses are printed like wins, and
//! `--at-least` turns a ratio into an exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use ringwire_bench::comparison::{Comparison, Settings};
use ringwire_bench::contender::{Contender, PEERS, RINGWIRE_EPOLL};
use ringwire_bench::process::sibling;
use ringwire_bench::results::RowResult;
use ringwire_bench::row::{ROWS, Row};
use ringwire_bench::{document, table};

/// Ringwire against other servers, side by side in one run.
#[derive(Parser)]
struct Options {
    /// Row to measure; repeatable. Without it, all of them
    #[arg(long = "row", value_name = "NAME")]
    rows: Vec<String>,
    /// Whom to compare with, of `ringwire-epoll`, `floor` and the folders of benches/peers; all
    /// without it, and nobody with ''
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// Another server as NAME=COMMAND, with {port} and, if it can broadcast, {mode}, which
    /// becomes `echo` or `broadcast`; repeatable
    #[arg(long = "peer", value_name = "NAME=COMMAND")]
    own: Vec<String>,
    /// Rounds; each measures every server once
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds per measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Core of the servers
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// Cores of the clients, a worker each
    #[arg(long, default_value = "1", value_delimiter = ',')]
    client_cpus: Vec<usize>,
    /// Write tables, plots and figures into FOLDER/benchmarks.md and FOLDER/benchmarks/
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    /// Measure nothing: make the tables and plots of FOLDER anew from its figures
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["write", "rows"])]
    rewrite: Option<PathBuf>,
    /// Fail if Ringwire's median ratio to PEER is below this; repeatable
    #[arg(long, value_name = "PEER=RATIO", value_parser = parse_bound)]
    at_least: Vec<(String, f64)>,
    /// Fail if the median of Ringwire's first metric is above this
    #[arg(long, value_name = "FIGURE")]
    at_most: Option<f64>,
}

fn main() -> ExitCode {
    match compare(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<(), String> {
    if let Some(folder) = &options.rewrite {
        return document::write(folder, &[]);
    }
    let rows: Vec<&Row> = match &options.rows[..] {
        [] => ROWS.iter().collect(),
        names => names.iter().map(|name| Row::find(name)).collect::<Result<_, _>>()?,
    };
    let settings = Settings {
        rounds: options.rounds,
        seconds: options.seconds,
        server_cpu: options.server_cpu,
        client_cpus: options.client_cpus.clone(),
        worker: sibling("ringwire-load")?,
        command: command_line(),
    };
    let others = contenders(options)?;
    let bar = progress_bar();
    for row in rows {
        let result = Comparison::new(row, &settings, &bar).measure(&others)?;
        bar.suspend(|| print(row.name, &result));
        check(options, &result)?;
        if let Some(folder) = &options.write {
            document::write(folder, &[(row.name, result)])?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn contenders(options: &Options) -> Result<Vec<Contender>, String> {
    let names = match &options.peers {
        Some(names) => names.iter().map(|name| &name[..]).filter(|name| !name.is_empty()).collect(),
        None => [&[RINGWIRE_EPOLL, "floor"], &PEERS[..]].concat(),
    };
    names.into_iter().chain(options.own.iter().map(|own| &own[..])).map(Contender::parse).collect()
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise}  {pos} measurements  {msg}");
    ProgressBar::new_spinner().with_style(style.expect("the template is right"))
}

fn print(name: &str, result: &RowResult) {
    println!("{name}: {}\n{}", result.title, table::render(result));
    result.notes.iter().for_each(|note| println!("({note})"));
    println!();
}

fn check(options: &Options, result: &RowResult) -> Result<(), String> {
    for (peer, at_least) in &options.at_least {
        let ratio = result.ratio_to(peer).ok_or_else(|| format!("{peer} was not measured"))?;
        if ratio.median < *at_least {
            return Err(format!("{:.3} of {peer}, below {at_least}", ratio.median));
        }
    }
    match (options.at_most, result.main_median()) {
        (Some(at_most), Some(median)) if median > at_most => {
            Err(format!("{median:.1} {}, above {at_most}", result.metrics[0]))
        }
        (Some(_), None) => Err("ringwire was not measured".to_owned()),
        _ => Ok(()),
    }
}

fn parse_bound(text: &str) -> Result<(String, f64), String> {
    let (peer, ratio) = text.split_once('=').ok_or("PEER=RATIO")?;
    Ok((peer.to_owned(), ratio.parse().map_err(|error| format!("{ratio:?}: {error}"))?))
}

/// The command as it was typed, for whoever wants to do it again.
fn command_line() -> String {
    let words =
        std::env::args().skip(1).map(|word| match word.contains([' ', '{']) || word.is_empty() {
            true => format!("'{word}'"),
            false => word,
        });
    std::iter::once("ringwire-compare".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
