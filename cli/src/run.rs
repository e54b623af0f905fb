//! From arguments to an exit code.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::error::{Error, OK, USAGE};
use crate::{calls, check, explain, status};

/// What a command knows of its surroundings.
pub struct Io<'a> {
    /// Where the answer goes.
    pub out: &'a mut (dyn Write + Send),
    /// Where everything else goes.
    pub err: &'a mut (dyn Write + Send),
    /// Whether `out` is a terminal that can be redrawn.
    pub terminal: bool,
    /// Milliseconds since the epoch.
    pub now_unix_ms: i64,
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Unlocked handles: a locked one cannot be sent between threads, which futures are free to be.
    let mut out = io::stdout();
    let terminal = out.is_terminal();
    let mut io = Io {
        out: &mut out,
        err: &mut io::stderr(),
        terminal,
        now_unix_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
    };
    ExitCode::from(runtime.block_on(run(&cli, &mut io)))
}

/// Runs one command and returns its exit code; an error is one line on `io.err`.
pub async fn run(cli: &Cli, io: &mut Io<'_>) -> u8 {
    let result = match &cli.command {
        Command::Check(args) => check::run(args, io),
        Command::Status(args) => status::run(args, io).await,
        Command::Calls(args) => calls::run(args, io).await,
        Command::Explain(args) => explain::run(args, io).await,
    };
    match result {
        Ok(code) => code,
        // A reader that has seen enough, such as `head`.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => OK,
        Err(error) => {
            // Nobody is left to tell if stderr is closed; the code still says it.
            let _ = writeln!(io.err, "error: {error}");
            error.exit_code()
        }
    }
}
