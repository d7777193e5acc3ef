//! The memory of another process, from outside.

use std::{
    process::{Child, Command, Output},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use gallery_gpt::DeviceKind;

use crate::memory::peak_of;

/// What a process said, and the most memory it had.
pub(crate) struct Watched {
    pub(crate) output: Output,
    /// Bytes on the device; nothing where it was never seen.
    pub(crate) peak: Option<u64>,
}

/// Waits for a process to end, looking at its memory on the way.
///
/// # Errors
/// It cannot be waited for.
pub(crate) fn watch(child: Child, device: DeviceKind) -> std::io::Result<Watched> {
    let process = child.id();
    let (peak, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let output = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let bytes = if device.is_cpu() {
                    peak_of(process)
                } else {
                    on_gpu(process)
                };
                peak.fetch_max(bytes.unwrap_or(0), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
        let output = child.wait_with_output();
        over.store(true, Ordering::Relaxed);
        output
    })?;
    let peak = peak.into_inner();
    Ok(Watched {
        output,
        peak: (peak > 0).then_some(peak),
    })
}

/// What the driver says it holds now. In a container the driver may know it by another number: then the one process there is.
fn on_gpu(process: u32) -> Option<u64> {
    let query = [
        "--query-compute-apps=pid,used_memory",
        "--format=csv,noheader,nounits",
    ];
    let output = Command::new("nvidia-smi").args(query).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<(u32, u64)> = text
        .lines()
        .filter_map(|line| {
            let (id, megabytes) = line.split_once(',')?;
            Some((id.trim().parse().ok()?, megabytes.trim().parse().ok()?))
        })
        .collect();
    let own = rows.iter().find(|(id, _)| *id == process);
    let only = (rows.len() == 1).then(|| &rows[0]);
    own.or(only).map(|(_, megabytes)| megabytes << 20)
}
