//! `status`: what an agent runs, or a cluster, and how it is.
//!
//! ```text
//!   agent or operator ── StatusReply ──► view ─┬─► text (head, objects, nodes, problems, counters, kernel)
//!                                              └─► JSON
//! ```

mod nodes;
mod shared;
mod text;
mod view;

pub use text::text;
pub use view::StatusView;

use crate::args::StatusArgs;
use crate::client::Client;
use crate::error::Error;
use crate::output::{self, Format};
use crate::run::Io;

/// Runs the command.
///
/// # Errors
/// Nobody to ask, a refusal, or an output that cannot be written.
pub async fn run(args: &StatusArgs, io: &mut Io<'_>) -> Result<u8, Error> {
    let mut client = Client::connect(&args.agent).await?;
    let mut reply = client.status().await?;
    reply.objects.retain(|object| args.namespace.as_ref().is_none_or(|namespace| object.namespace == *namespace));
    match args.agent.output {
        Format::Text => write!(io.out, "{}", text(&reply, args.all, io.now_unix_ms))?,
        Format::Json => output::json(io.out, &StatusView::from(reply))?,
    }
    Ok(crate::error::OK)
}
