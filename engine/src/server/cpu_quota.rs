//! The CPU quota of this process's control group: `cpu.max` (cgroup v2) or `cpu.cfs_quota_us` (v1),
//! the lowest of its own group and all parent groups. Affinity is in `sys/affinity.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// The CPUs the quota allows, rounded up; `None` without a quota. A quota of half a CPU is one.
pub(crate) fn cpus_by_quota() -> Option<usize> {
    cpus_by_quota_under(Path::new("/"))
}

/// As seen with `root` in the place of `/`.
fn cpus_by_quota_under(root: &Path) -> Option<usize> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    groups
        .lines()
        .filter_map(|line| {
            // proc_pid_cgroup(5): hierarchy, controllers, path.
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let version = match controllers {
                "" => Version::Two,
                _ if controllers.split(',').any(|name| name == "cpu") => Version::One,
                _ => return None,
            };
            let mount = mounts.lines().find_map(|line| Mount::parse(line, version))?;
            lowest_quota(root, &mount, path, version)
        })
        .min()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

struct Mount {
    /// The group that is seen at `point`.
    top: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// proc_pid_mountinfo(5): the fourth and fifth field, and behind ` - ` the type, the source
    /// and the options of the file system.
    fn parse(line: &str, version: Version) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (top, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let mut system = system.split(' ');
        let (kind, options) = (system.next()?, system.nth(1).unwrap_or(""));
        let is_it = match version {
            Version::One => kind == "cgroup" && options.split(',').any(|option| option == "cpu"),
            Version::Two => kind == "cgroup2",
        };
        is_it.then_some(Self { top, point })
    }
}

/// mountinfo writes a blank as `\040` and so on.
fn unescape(field: &str) -> PathBuf {
    let field = field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    field.replace("\\134", "\\").into()
}

/// The lowest quota from the group at `path` up to the one that is mounted.
fn lowest_quota(root: &Path, mount: &Mount, path: &str, version: Version) -> Option<usize> {
    let below = Path::new(path).strip_prefix(&mount.top).unwrap_or(Path::new(""));
    let point = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
    below.ancestors().filter_map(|group| quota(&point.join(group), version)).min()
}

fn quota(group: &Path, version: Version) -> Option<usize> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let (quota, period) = match version {
        Version::One => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
        Version::Two => {
            let text = read("cpu.max")?;
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
    };
    // `max` and -1 are no quota, and no number here.
    let (quota, period): (u64, u64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (period > 0).then(|| usize::try_from(quota.div_ceil(period)).unwrap_or(usize::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root folder with these files, removed when dropped.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root =
                std::env::temp_dir().join(format!("ringwire-quota-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_lowest_quota_of_nested_groups_counts_rounded_up() {
        let told = [
            ("200000 100000", "max 100000", Some(2)),
            ("max 100000", "150000 100000", Some(2)),
            ("400000 100000", "150000 100000", Some(2)),
            ("50000 100000", "max 100000", Some(1)),
            ("250000 100000", "800000 100000", Some(3)),
            ("max 100000", "max 100000", None),
            ("nonsense", "1 0", None),
        ];
        for (index, (own, outer, cpus)) in told.into_iter().enumerate() {
            let root = Root::new(
                &format!("two-{index}"),
                &[
                    ("proc/self/cgroup", "0::/outer/own\n"),
                    ("proc/self/mountinfo", V2),
                    ("sys/fs/cgroup/outer/own/cpu.max", own),
                    ("sys/fs/cgroup/outer/cpu.max", outer),
                ],
            );
            assert_eq!(cpus_by_quota_under(&root.0), cpus, "{own}, {outer}");
        }
    }

    #[test]
    fn version_one_and_a_mount_of_a_part() {
        let root = Root::new(
            "one",
            &[
                ("proc/self/cgroup", "3:cpuset:/\n2:cpu,cpuacct:/docker/abc/own\n0::/\n"),
                (
                    "proc/self/mountinfo",
                    "31 24 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n",
                ),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "300000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/own/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu,cpuacct/own/cpu.cfs_period_us", "100000\n"),
            ],
        );
        assert_eq!(cpus_by_quota_under(&root.0), Some(3));
    }

    #[test]
    fn no_control_groups_no_quota() {
        let root = Root::new("none", &[("proc/self/cgroup", "0::/\n")]);
        assert_eq!(cpus_by_quota_under(&root.0), None);
    }
}
