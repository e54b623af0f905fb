//! `status`: what an agent runs and how it is.
//!
//! ```text
//!   agent ── StatusReply ──► view ─┬─► text (head, objects, problems, counters, kernel)
//!                                  └─► JSON
//! ```

mod text;
mod view;

use callgate_proto::pb;

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
/// No agent, an agent that refuses, or an output that cannot be written.
pub async fn run(args: &StatusArgs, io: &mut Io<'_>) -> Result<u8, Error> {
    let mut client = Client::connect(&args.agent.api).await?;
    let reply = client.local.status(pb::StatusRequest {}).await.map_err(|status| client.error(&status))?;
    let reply = reply.into_inner();
    match args.agent.output {
        Format::Text => write!(io.out, "{}", text(&reply, args.all, io.now_unix_ms))?,
        Format::Json => output::json(io.out, &StatusView::from(reply))?,
    }
    Ok(crate::error::OK)
}
