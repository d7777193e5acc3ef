//! Says whether a device can be used, and how far its attention is from an exact one.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::{check_device, prelude::*};

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or("cpu".into());
    let kind: DeviceKind = name.parse()?;
    println!("{}", DeviceReport::of(kind));
    for check in check_device(&kind.device()?) {
        println!("{check}");
    }
    Ok(())
}
