//! Memory that this process can still allocate: the smallest of the machine's free memory, the limits of its control groups, and the
//! limits of the process.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Memory that this process can still allocate, and what limits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvailableMemory {
    /// Bytes.
    pub bytes: u64,
    /// The limit: `MemAvailable`, a control group's file, or a limit of the process.
    pub bound: String,
}

impl fmt::Display for AvailableMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:.2} GB ({})",
            self.bytes as f64 / 1e9,
            self.bound
        )
    }
}

impl AvailableMemory {
    /// That of this process now. `None` on systems other than Linux.
    #[must_use]
    pub fn now() -> Option<Self> {
        Self::under(Path::new("/"))
    }

    /// As [`AvailableMemory::now`], with the system's files under a folder.
    fn under(root: &Path) -> Option<Self> {
        let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        let mut bounds = Vec::new();
        if let Some(text) = read("proc/meminfo") {
            bounds.extend(
                kilobytes(&text, "MemAvailable:").map(|free| (free, "MemAvailable".to_owned())),
            );
        }
        let groups = read("proc/self/cgroup").unwrap_or_default();
        for line in groups.lines() {
            bounds.extend(of_group(root, line));
        }
        let limits = read("proc/self/limits").unwrap_or_default();
        let status = read("proc/self/status").unwrap_or_default();
        for (limit, name, taken) in [
            ("Max address space", "RLIMIT_AS", "VmSize:"),
            ("Max data size", "RLIMIT_DATA", "VmData:"),
        ] {
            let limit = limits.lines().find_map(|line| line.strip_prefix(limit));
            // The soft limit; `unlimited` does not parse.
            let limit = limit.and_then(|columns| columns.split_whitespace().next()?.parse().ok());
            if let Some(limit) = limit {
                let taken = kilobytes(&status, taken).unwrap_or(0);
                bounds.push((u64::saturating_sub(limit, taken), name.to_owned()));
            }
        }
        let (bytes, bound) = bounds.into_iter().min()?;
        Some(Self { bytes, bound })
    }
}

/// The bytes of a line like `MemAvailable:   123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Memory left by a control group and its parents, from a line of `/proc/self/cgroup`: `0::/path` in version 2,
/// `9:memory:/path` in version 1.
fn of_group(root: &Path, line: &str) -> Vec<(u64, String)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    let path = Path::new(path.trim_start_matches('/'));
    let [folder, limit, usage] = if controllers.is_empty() {
        ["sys/fs/cgroup", "memory.max", "memory.current"]
    } else if controllers.split(',').any(|name| name == "memory") {
        [
            "sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ]
    } else {
        return Vec::new();
    };
    let top = root.join(folder);
    // In a container the path may be that of the host, of which only a part is visible.
    let mut groups: Vec<PathBuf> = path.ancestors().map(|part| top.join(part)).collect();
    groups.dedup();
    groups
        .iter()
        .filter_map(|group| {
            let number = |name: &str| -> Option<u64> {
                let text = std::fs::read_to_string(group.join(name)).ok()?;
                text.trim().parse().ok()
            };
            // Without a limit: `max`, or a number near 2^63.
            let max = number(limit).filter(|&max| max < 1 << 62)?;
            // The page cache is reclaimed when memory is short.
            let statistics = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
            let cached = statistics.lines().find_map(|line| {
                let cached = line.strip_prefix("total_inactive_file ");
                cached
                    .or_else(|| line.strip_prefix("inactive_file "))?
                    .parse()
                    .ok()
            });
            let taken = number(usage)
                .unwrap_or(0)
                .saturating_sub(cached.unwrap_or(0));
            let name = group.strip_prefix(root).unwrap_or(group).join(limit);
            Some((max.saturating_sub(taken), format!("/{}", name.display())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    fn of(files: &[(&str, &str)]) -> Option<AvailableMemory> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        AvailableMemory::under(root.path())
    }

    const MACHINE: (&str, &str) = (
        "proc/meminfo",
        "MemTotal: 9 kB\nMemAvailable:   2000000 kB\n",
    );

    #[test]
    fn the_lowest_bound_counts() {
        let found = |files: &[(&str, &str)]| {
            let memory = of(&[&[MACHINE], files].concat()).unwrap();
            (memory.bytes, memory.bound)
        };
        assert_eq!(found(&[]), (2_048_000_000, "MemAvailable".to_owned()));
        let second = [
            ("proc/self/cgroup", "0::/pod/box\n"),
            ("sys/fs/cgroup/pod/box/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/memory.max", "120000000\n"),
            ("sys/fs/cgroup/pod/memory.current", "50000000\n"),
            (
                "sys/fs/cgroup/pod/memory.stat",
                "anon 1\ninactive_file 20000000\n",
            ),
        ];
        let bound = "/sys/fs/cgroup/pod/memory.max".to_owned();
        assert_eq!(found(&second), (90_000_000, bound));
        let first = [
            ("proc/self/cgroup", "3:cpu:/x\n9:memory,hugetlb:/docker/a\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "300000000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "100000000\n"),
        ];
        let bound = "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned();
        assert_eq!(found(&first), (200_000_000, bound));
        let limits = [
            (
                "proc/self/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax data size  unlimited  unlimited  bytes\n\
                 Max address space   400000000   unlimited   bytes\n",
            ),
            ("proc/self/status", "VmSize:\t  100000 kB\nVmData:\t 5 kB\n"),
        ];
        assert_eq!(found(&limits), (297_600_000, "RLIMIT_AS".to_owned()));
        // More is allocated already than the limit.
        let over = [limits[0], ("proc/self/status", "VmSize: 900000 kB\n")];
        assert_eq!(found(&over).0, 0);
        assert_eq!(of(&[]), None);
    }
}
