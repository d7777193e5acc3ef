//! How much memory this process has.

/// Bytes of this process in memory, where the system tells.
#[must_use]
pub fn resident() -> Option<u64> {
    status("self", "VmRSS:")
}

/// The most it ever had.
#[must_use]
pub fn peak() -> Option<u64> {
    status("self", "VmHWM:")
}

/// The most another process ever had.
#[must_use]
pub fn peak_of(process: u32) -> Option<u64> {
    status(&process.to_string(), "VmHWM:")
}

fn status(process: &str, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
