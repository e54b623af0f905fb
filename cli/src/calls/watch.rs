//! `calls -w`: lists until somebody stops it; who goes away is waited for, and a new leader found.

use std::time::Duration;

use callgate_proto::pb;
use tonic::Streaming;

use super::{CallsView, text};
use crate::args::CallsArgs;
use crate::client::Client;
use crate::error::Error;
use crate::output::{self, Format};
use crate::run::Io;

/// Between two lists on a terminal.
const REDRAW: Duration = Duration::from_secs(1);
/// Between two attempts to reach who went away.
const RETRY: Duration = Duration::from_secs(1);
/// Cursor home, clear to the end of the screen (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Runs until the output is closed, the question is refused, or, before the first list, there is nobody to ask.
pub(super) async fn run(args: &CallsArgs, io: &mut Io<'_>) -> Result<u8, Error> {
    let redraw = io.terminal && args.agent.output == Format::Text;
    let request = request(args, redraw);
    let mut client = Client::connect(&args.agent).await?;
    let mut first = true;
    loop {
        let lost = match client.watch_calls(request).await {
            Ok(lists) => show(lists, args, io, redraw, &mut first, &mut client).await?,
            Err(error) => gone(error)?,
        };
        let again = human_retry();
        writeln!(io.err, "{lost}; trying again every {again}")?;
        client = reconnect(args).await?;
        writeln!(io.err, "connected to {} again", client.peer())?;
    }
}

fn request(args: &CallsArgs, redraw: bool) -> pb::WatchCallsRequest {
    let interval = args.interval.or(redraw.then_some(REDRAW));
    let interval_ms = interval.map_or(0, |interval| u32::try_from(interval.as_millis()).unwrap_or(u32::MAX));
    pb::WatchCallsRequest { interval_ms, on_change: interval.is_none() }
}

fn human_retry() -> String {
    crate::human::duration(u64::try_from(RETRY.as_millis()).unwrap_or(u64::MAX))
}

/// What is worth another attempt, as a message; the rest ends the command.
fn gone(error: Error) -> Result<String, Error> {
    match error {
        Error::Gone { .. } | Error::NoAgent { .. } => Ok(error.to_string()),
        Error::Cluster(ref cluster) if cluster.may_pass() => Ok(error.to_string()),
        Error::Cluster(_) | Error::Files { .. } | Error::Usage(_) | Error::Refused { .. } | Error::Output(_) => {
            Err(error)
        }
    }
}

/// Shows lists until the stream ends; says why it did.
async fn show(
    mut lists: Streaming<pb::CallList>,
    args: &CallsArgs,
    io: &mut Io<'_>,
    redraw: bool,
    first: &mut bool,
    client: &mut Client,
) -> Result<String, Error> {
    loop {
        match lists.message().await {
            Ok(Some(list)) => {
                write!(io.err, "{}", super::missing(&list, list.taken_unix_ms))?;
                let list = super::of_namespace(list, args.namespace.as_deref());
                print(&CallsView::from(list), args.agent.output, io, redraw, first)?;
            }
            Ok(None) => return Ok(format!("{} ended the watch", client.peer())),
            Err(status) => return gone(client.error(&status).await),
        }
    }
}

fn print(view: &CallsView, format: Format, io: &mut Io<'_>, redraw: bool, first: &mut bool) -> Result<(), Error> {
    match format {
        Format::Json => output::json_line(io.out, view)?,
        Format::Text => {
            let taken = view.taken.as_deref().unwrap_or("at an unknown time");
            let head = match (redraw, *first) {
                (true, _) => CLEAR,
                (false, true) => "",
                (false, false) => "\n",
            };
            // One write, so that a redraw does not flicker and a reader of a pipe gets whole tables.
            let table = format!("{head}{taken}\n{}", text(view));
            io.out.write_all(table.as_bytes())?;
            io.out.flush()?;
        }
    }
    *first = false;
    Ok(())
}

async fn reconnect(args: &CallsArgs) -> Result<Client, Error> {
    loop {
        tokio::time::sleep(RETRY).await;
        match Client::connect(&args.agent).await {
            Ok(client) => return Ok(client),
            Err(error) => drop(gone(error)?),
        }
    }
}
