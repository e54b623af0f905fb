//! `calls [-w]`: the live calls of an agent.
//!
//! ```text
//!   agent ── CallList ──► view (sorted, typed names) ─┬─► table ── text
//!                             ▲                       └─► JSON
//!   watch: stream of lists ───┘  agent gone: say so, connect again
//! ```

mod table;
mod view;
mod watch;

use callgate_proto::pb;

pub use table::table;
pub use view::{CallView, CallsView, End, Traffic};

use crate::args::CallsArgs;
use crate::client::Client;
use crate::error::Error;
use crate::output::{self, Format};
use crate::run::Io;

/// What is printed in place of a table without rows.
const NONE: &str = "no live calls";

/// Runs the command.
///
/// # Errors
/// No agent, an agent that refuses, or an output that cannot be written.
pub async fn run(args: &CallsArgs, io: &mut Io<'_>) -> Result<u8, Error> {
    if args.watch {
        return watch::run(args, io).await;
    }
    let mut client = Client::connect(&args.agent.api).await?;
    let reply = client.local.calls(pb::CallsRequest {}).await.map_err(|status| client.error(&status))?;
    let view = CallsView::from(reply.into_inner());
    match args.agent.output {
        Format::Text => write!(io.out, "{}", text(&view))?,
        Format::Json => output::json(io.out, &view)?,
    }
    Ok(crate::error::OK)
}

/// The table, or one line that says there is none.
fn text(view: &CallsView) -> String {
    if view.calls.is_empty() { format!("{NONE}\n") } else { table(view).to_string() }
}
