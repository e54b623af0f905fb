//! `calls [-w]`: the live calls of an agent, or of all nodes of a cluster.
//!
//! ```text
//!   agent or operator ── CallList ──► view (sorted, typed names) ─┬─► table ── text
//!                                         ▲                       └─► JSON
//!   watch: stream of lists ───────────────┘  who answered is gone: say so, connect again
//! ```

mod table;
pub(crate) mod view;
mod watch;

use callgate_proto::pb;

pub use table::table;
pub use view::{CallView, CallsView, End, Traffic};

use crate::args::CallsArgs;
use crate::client::Client;
use crate::error::Error;
use crate::human;
use crate::output::{self, Format};
use crate::run::Io;

/// What is printed in place of a table without rows.
const NONE: &str = "no live calls";

/// Runs the command.
///
/// # Errors
/// Nobody to ask, a refusal, or an output that cannot be written.
pub async fn run(args: &CallsArgs, io: &mut Io<'_>) -> Result<u8, Error> {
    if args.watch {
        return watch::run(args, io).await;
    }
    let mut client = Client::connect(&args.agent).await?;
    let list = client.calls().await?;
    write!(io.err, "{}", missing(&list, io.now_unix_ms))?;
    let view = CallsView::from(of_namespace(list, args.namespace.as_deref()));
    match args.agent.output {
        Format::Text => write!(io.out, "{}", text(&view))?,
        Format::Json => output::json(io.out, &view)?,
    }
    Ok(crate::error::OK)
}

/// The calls whose rule is in `namespace`; without one all.
fn of_namespace(mut list: pb::CallList, namespace: Option<&str>) -> pb::CallList {
    let of = |call: &pb::Call, namespace: &str| call.rule.split_once('/').is_some_and(|(of, _)| of == namespace);
    list.calls.retain(|call| namespace.is_none_or(|namespace| of(call, namespace)));
    list
}

/// A line for each node the list says nothing about: a short table must not look like the whole.
fn missing(list: &pb::CallList, now_unix_ms: i64) -> String {
    let line = |node: &pb::MissingNode| {
        let since = match node.since_unix_ms {
            0 => String::new(),
            since => format!(" (for {})", human::since(now_unix_ms, since)),
        };
        format!("calls of node {} are not shown: {}{since}\n", node.node, node.message)
    };
    list.missing.iter().map(line).collect()
}

/// The table, or one line that says there is none.
fn text(view: &CallsView) -> String {
    if view.calls.is_empty() { format!("{NONE}\n") } else { table(view).to_string() }
}
