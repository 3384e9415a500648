//! The front door.

use std::process::ExitCode;

use flumen::{app, cli};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(command) => app::run(command),
        Err(usage) => {
            usage.print();
            ExitCode::from(usage.exit_code())
        }
    }
}
