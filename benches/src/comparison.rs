//! Measures one row: the servers are started, connected to, warmed up and then measured in
//! turn, A B C A B C, with all of them staying up. Only the server under test has work to do;
//! one that uses its core without any is named.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::ProgressBar;
use ringwire::DriverKind;

use crate::contender::{Contender, Mode, RINGWIRE};
use crate::fleet::{CONNECTIONS_PER_PROCESS_MAX, Fleet, Workers};
use crate::idle::IdleCost;
use crate::machine::Machine;
use crate::process::Process;
use crate::results::{PointResult, RowResult, ServerResult};
use crate::row::{CONNECTION_COUNTS, Kind, Row};
use crate::spread::Spread;
use crate::work::Work;

/// How rows are measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Rounds; each measures every server once.
    pub rounds: usize,
    /// Seconds of one measurement.
    pub seconds: f64,
    /// Core of the servers.
    pub server_cpu: usize,
    /// Cores of the clients, a worker each.
    pub client_cpus: Vec<usize>,
    /// The program that is a worker.
    pub worker: PathBuf,
    /// The command that was typed.
    pub command: String,
}

/// Seconds of load before the first round, so that code is compiled and memory is there.
const WARM_UP_SECONDS: f64 = 1.0;

/// A server that uses more of a core than this without a client's doing disturbs the others.
const IDLE_CPU_MAX: f64 = 0.01;

/// A server that is at work for less of the time than this is not what limits a closed loop.
const BUSY_MIN: f64 = 0.9;

/// How long a server is left alone before what it uses without work is measured.
const REST: Duration = Duration::from_secs(1);

/// A tail needs more rounds than a mean.
const RATE_ROUNDS_MIN: usize = 15;

/// One row being measured.
pub struct Comparison<'a> {
    row: &'a Row,
    settings: &'a Settings,
    bar: &'a ProgressBar,
    notes: Vec<String>,
}

/// A contender that is up, and its clients.
struct Entrant {
    contender: Contender,
    version: String,
    servers: Vec<Process>,
    workers: Workers,
    rounds: Vec<Vec<f64>>,
    /// Which part of each round the servers were at work.
    busy: Vec<f64>,
}

impl<'a> Comparison<'a> {
    /// Prepares to measure `row`; nothing is started yet. `bar` counts measurements.
    #[must_use]
    pub fn new(row: &'a Row, settings: &'a Settings, bar: &'a ProgressBar) -> Self {
        Self { row, settings, bar, notes: Vec::new() }
    }

    /// Measures it for Ringwire and those of `others` that can take part. One that does not
    /// start or fails is left out, and the notes say why.
    ///
    /// # Errors
    ///
    /// Ringwire itself fails.
    pub fn measure(mut self, others: &[Contender]) -> Result<RowResult, String> {
        let contenders = self.contenders(others);
        let points = match self.row.kind {
            Kind::Memory => vec![self.memory(&contenders)?],
            Kind::Connections => self.connections(&contenders)?,
            kind => {
                let entrants = self.enter(&contenders, kind.connections())?;
                vec![self.in_turn(String::new(), entrants)?]
            }
        };
        Ok(RowResult {
            title: self.row.title.to_owned(),
            command: self.settings.command.clone(),
            machine: Machine::this(),
            seconds: self.settings.seconds,
            metrics: self.row.kind.metrics().iter().map(|metric| metric.name.to_owned()).collect(),
            points,
            notes: self.notes,
        })
    }

    /// Ringwire, and those of `others` that can take part.
    fn contenders(&self, others: &[Contender]) -> Vec<Contender> {
        let takes_part = |other: &&Contender| other.takes_part(self.row);
        let mut contenders = vec![Contender::ringwire(DriverKind::IoUring)];
        contenders.extend(others.iter().filter(takes_part).cloned());
        if self.row.kind == Kind::Shards {
            let doubled = contenders.iter().filter_map(Contender::with_two_shards);
            contenders.extend(doubled.collect::<Vec<_>>());
        }
        contenders
    }

    /// Starts everybody and opens their connections.
    fn enter(
        &mut self,
        contenders: &[Contender],
        connections: usize,
    ) -> Result<Vec<Entrant>, String> {
        let mut entrants = Vec::new();
        for contender in contenders {
            match self.start(contender, connections) {
                Ok(entrant) => entrants.push(entrant),
                Err(error) => self.leave_out(contender, &error)?,
            }
        }
        self.note_idle_burners(&entrants)?;
        Ok(entrants)
    }

    fn start(&self, contender: &Contender, connections: usize) -> Result<Entrant, String> {
        let kind = self.row.kind;
        let cpu = (kind != Kind::Shards).then_some(self.settings.server_cpu);
        // Descriptors: a server of more connections is several processes on its core.
        let processes = connections.div_ceil(CONNECTIONS_PER_PROCESS_MAX).max(1);
        let start = |_| contender.start(kind.mode(), cpu);
        let servers: Vec<Process> = (0..processes).map(start).collect::<Result<_, _>>()?;
        let cpus = match kind {
            Kind::Shards => &[][..],
            // One worker must know how far all receivers are.
            _ if kind.mode() == Mode::Broadcast => &self.settings.client_cpus[..1],
            _ => &self.settings.client_cpus,
        };
        let addrs: Vec<_> = servers.iter().map(|server| server.addr).collect();
        let fleet = Fleet {
            program: &self.settings.worker,
            cpus,
            addrs: &addrs,
            dialect: contender.dialect(),
            mix: kind.mix(),
        };
        let mut workers = fleet.start(connections)?;
        if kind != Kind::Memory {
            workers.connect(connections, false)?;
        }
        let version = contender.version(&servers[0]);
        Ok(Entrant {
            contender: contender.clone(),
            version,
            servers,
            workers,
            rounds: Vec::new(),
            busy: Vec::new(),
        })
    }

    /// Warms everybody up and measures them in turn.
    fn in_turn(
        &mut self,
        label: String,
        mut entrants: Vec<Entrant>,
    ) -> Result<PointResult, String> {
        let warm_up = WARM_UP_SECONDS.min(self.settings.seconds);
        let kind = self.row.kind;
        let mut peaks = Vec::new();
        entrants = self.each(entrants, |entrant| {
            let tally = entrant.workers.run(kind.work(), warm_up)?;
            peaks.push((entrant.contender.is_own(), tally.within as f64 / warm_up));
            Ok(())
        })?;
        let (mut work, mut rounds) = (kind.work(), self.settings.rounds);
        if kind == Kind::Rate {
            let per_second = (half_of_the_best_peer(&peaks) / 1e3).round() * 1e3;
            self.notes.push(format!("{per_second:.0} messages/s"));
            work = Work::Rate { per_second, workers: 1, worker: 0 };
            rounds = rounds.max(RATE_ROUNDS_MIN);
        }
        for _ in 0..rounds {
            let seconds = self.settings.seconds;
            entrants = self.each(entrants, |entrant| entrant.measure(kind, work, seconds))?;
        }
        self.note_waiting(&label, &entrants);
        Ok(PointResult { label, servers: entrants.into_iter().map(Entrant::into_result).collect() })
    }

    /// Does something with everybody, and leaves out those with whom it fails.
    fn each(
        &mut self,
        entrants: Vec<Entrant>,
        mut act: impl FnMut(&mut Entrant) -> Result<(), String>,
    ) -> Result<Vec<Entrant>, String> {
        let mut left = Vec::new();
        for mut entrant in entrants {
            self.bar.set_message(format!("{}: {}", self.row.name, entrant.contender.name));
            match act(&mut entrant) {
                Ok(()) => left.push(entrant),
                Err(error) => self.leave_out(&entrant.contender, &error)?,
            }
            self.bar.inc(1);
        }
        Ok(left)
    }

    fn leave_out(&mut self, contender: &Contender, error: &str) -> Result<(), String> {
        if contender.name == RINGWIRE {
            return Err(format!("{RINGWIRE}: {error}"));
        }
        let note = format!("{} was left out: {error}", contender.name);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
        Ok(())
    }

    fn note_idle_burners(&mut self, entrants: &[Entrant]) -> Result<(), String> {
        let cpu = || entrants.iter().map(Entrant::cpu_seconds).collect::<Result<Vec<f64>, _>>();
        let before = cpu()?;
        std::thread::sleep(REST);
        for ((entrant, before), after) in entrants.iter().zip(before).zip(cpu()?) {
            let share = (after - before) / REST.as_secs_f64();
            if share > IDLE_CPU_MAX {
                let name = &entrant.contender.name;
                let percent = share * 100.0;
                self.notes
                    .push(format!("{name} uses {percent:.0} % of the core with nothing to do"));
            }
        }
        Ok(())
    }

    /// In a closed loop of messages somebody is the limit; if it is not the server, a reader must
    /// know.
    fn note_waiting(&mut self, label: &str, entrants: &[Entrant]) {
        if matches!(self.row.kind, Kind::Rate | Kind::Churn | Kind::Shards) {
            return;
        }
        for entrant in entrants {
            let busy = Spread::of(entrant.busy.iter().copied()).map_or(1.0, |busy| busy.median);
            if busy < BUSY_MIN {
                let name = &entrant.contender.name;
                let percent = busy * 100.0;
                let at = if label.is_empty() { String::new() } else { format!("{label}: ") };
                self.notes.push(format!(
                    "{at}{name} was at work for {percent:.0} % of the time, and not what limited it"
                ));
            }
        }
    }

    /// Fewer and more connections, each with servers of their own.
    fn connections(&mut self, contenders: &[Contender]) -> Result<Vec<PointResult>, String> {
        let mut points = Vec::new();
        for count in CONNECTION_COUNTS {
            let entrants = self.enter(contenders, count)?;
            points.push(self.in_turn(format!("{count} connections"), entrants)?);
        }
        Ok(points)
    }

    /// One server after the other, started anew in each round: memory that was once used is
    /// seldom given back.
    fn memory(&mut self, contenders: &[Contender]) -> Result<PointResult, String> {
        const ROUNDS_MAX: usize = 3;
        let connections = self.row.kind.connections();
        let mut servers = Vec::new();
        for contender in contenders {
            self.bar.set_message(format!("{}: {}", self.row.name, contender.name));
            let rounds = self.settings.rounds.min(ROUNDS_MAX);
            let measured: Result<Vec<_>, String> = (0..rounds)
                .map(|_| {
                    let mut entrant = self.start(contender, connections)?;
                    let pids = [entrant.servers[0].pid()];
                    let cost = IdleCost::measure(&mut entrant.workers, &pids, connections, REST)?;
                    self.bar.inc(1);
                    Ok((entrant.version, cost.each().to_vec()))
                })
                .collect();
            match measured {
                Ok(measured) => {
                    let version = measured[0].0.clone();
                    let rounds = measured.into_iter().map(|(_, figures)| figures).collect();
                    servers.push(to_result(contender, version, rounds));
                }
                Err(error) => self.leave_out(contender, &error)?,
            }
        }
        Ok(PointResult { label: String::new(), servers })
    }
}

impl Entrant {
    fn cpu_seconds(&self) -> Result<f64, String> {
        let cpu = |server: &Process| server.pid().cpu_time().map(|time| time.as_secs_f64());
        self.servers.iter().map(cpu).sum()
    }

    fn measure(&mut self, kind: Kind, work: Work, seconds: f64) -> Result<(), String> {
        let before = self.cpu_seconds()?;
        let tally = self.workers.run(work, seconds)?;
        let cpu_seconds = self.cpu_seconds()? - before;
        self.busy.push(cpu_seconds / seconds);
        self.rounds.push(kind.figures(&tally, cpu_seconds, seconds));
        Ok(())
    }

    fn into_result(self) -> ServerResult {
        to_result(&self.contender, self.version, self.rounds)
    }
}

fn to_result(contender: &Contender, version: String, rounds: Vec<Vec<f64>>) -> ServerResult {
    let metrics = rounds.first().map_or(0, Vec::len);
    let of_metric = |metric: usize| rounds.iter().map(|round| round[metric]).collect();
    let figures = (0..metrics).map(of_metric).collect();
    ServerResult { name: contender.name.clone(), version, figures }
}

/// Half of the best peak that is neither Ringwire's nor the floor's; of the best at all, if
/// there is no peer.
fn half_of_the_best_peer(peaks: &[(bool, f64)]) -> f64 {
    let best = |is_own| {
        let of_kind = peaks.iter().filter(|(own, _)| *own == is_own);
        Spread::of(of_kind.map(|(_, peak)| *peak)).map(|spread| spread.highest)
    };
    best(false).or_else(|| best(true)).unwrap_or(0.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::RINGWIRE_EPOLL;

    #[test]
    fn the_rate_is_half_of_the_best_peers_peak() {
        let peaks = [(true, 300.0), (false, 100.0), (false, 200.0)];
        assert_eq!(half_of_the_best_peer(&peaks), 100.0);
        assert_eq!(half_of_the_best_peer(&peaks[..1]), 150.0);
    }

    #[test]
    fn two_shards_are_compared_on_the_drivers_that_were_asked_for() {
        let settings = Settings {
            rounds: 1,
            seconds: 1.0,
            server_cpu: 0,
            client_cpus: vec![1],
            worker: PathBuf::new(),
            command: String::new(),
        };
        let bar = ProgressBar::hidden();
        let names = |row: &str, others: &[&str]| -> Vec<String> {
            let row = Row::find(row).unwrap();
            let others: Vec<_> =
                others.iter().map(|name| Contender::parse(name).unwrap()).collect();
            let contenders = Comparison::new(row, &settings, &bar).contenders(&others);
            contenders.into_iter().map(|contender| contender.name).collect()
        };
        assert_eq!(names("echo-64", &[RINGWIRE_EPOLL, "ws"]), ["ringwire", "ringwire-epoll", "ws"]);
        assert_eq!(names("shards", &["floor", "ws"]), ["ringwire", "ringwire, 2 shards"]);
        assert_eq!(
            names("shards", &[RINGWIRE_EPOLL]),
            ["ringwire", "ringwire-epoll", "ringwire, 2 shards", "ringwire-epoll, 2 shards"]
        );
    }

    #[test]
    fn rounds_of_metrics_become_metrics_of_rounds() {
        let rounds = vec![vec![1.0, 10.0], vec![2.0, 20.0]];
        let result = to_result(&Contender::ringwire(DriverKind::IoUring), String::new(), rounds);
        assert_eq!(result.figures, [[1.0, 2.0], [10.0, 20.0]]);
    }
}
