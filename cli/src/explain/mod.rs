//! `explain`: which rule a packet would meet, asked of an agent, of a cluster or of manifests.
//!
//! ```text
//!   agent or operator ── ExplainReply ────────┐
//!   files ── compile ── explain ── offline ───┴─► view ─┬─► text
//!                                                       └─► JSON
//! ```

mod offline;
mod text;
mod view;

use callgate_crds::DEFAULT_NAMESPACE;
use callgate_proto::pb;

pub use text::text;
pub use view::ExplainView;

use crate::args::ExplainArgs;
use crate::client::Client;
use crate::error::Error;
use crate::output::{self, Format, there};
use crate::run::Io;
use crate::target::Origin;

/// IP protocol number of GRE.
const GRE: u8 = 47;
const GRE_NOTE: &str = "this is about other GRE than PPTP's, which goes with its call and needs no rule; where rules of a source have a PptpAlg, it is dropped without a call";

/// Runs the command.
///
/// # Errors
/// Nobody to ask, a pod nobody knows, files that cannot be read, or an output that cannot be written.
pub async fn run(args: &ExplainArgs, io: &mut Io<'_>) -> Result<u8, Error> {
    let (request, mut reply) = match &args.files {
        Some(path) => (request(args, DEFAULT_NAMESPACE), offline::explain(path, args)?),
        None => {
            let mut client = Client::connect(&args.agent).await?;
            let request = request(args, client.namespace());
            let reply = client.explain(request.clone()).await?;
            (request, reply)
        }
    };
    if args.to.protocol == GRE {
        // Rules alone would tell half the truth about it.
        let before = there(reply.note).map(|note| note + "; ").unwrap_or_default();
        reply.note = before + GRE_NOTE;
    }
    match args.agent.output {
        Format::Text => write!(io.out, "{}", text(&request, &reply))?,
        Format::Json => output::json(io.out, &ExplainView::new(&request, reply))?,
    }
    Ok(crate::error::OK)
}

/// What is asked; `namespace` is of a pod for which nobody has said one.
fn request(args: &ExplainArgs, namespace: &str) -> pb::ExplainRequest {
    let (from, from_port) = match &args.from {
        Origin::Address(address, port) => (address.to_string(), *port),
        Origin::Pod(said, name) => (format!("{}/{name}", args.namespace_of(said.as_deref(), namespace)), None),
    };
    pb::ExplainRequest {
        from,
        from_port: from_port.map(u32::from),
        to: args.to.address.to_string(),
        to_port: args.to.port.map(u32::from),
        protocol: args.to.protocol.into(),
    }
}
