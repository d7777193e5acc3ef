//! The program: finetunes and runs multimodal models that read paintings.

#[macro_use]
mod terminal;

mod args;
mod command_line;
mod commands;
mod files;

use std::process::ExitCode;

/// Trainings and servers allocate and free the same large buffers again and again; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    terminal::main(commands::run)
}
