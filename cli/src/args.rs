//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::output::Format;
use crate::target::{Origin, Target};

const EXIT_CODES: &str = "\
Exit codes:
  0  done; check: no problems
  1  check: there are problems
  2  wrong arguments, or files that cannot be read
  3  nobody answers: no agent on the socket, no operator in the cluster, or no right to ask it
  4  the agent or the operator answered with an error

status, calls and explain ask the agent of this host if its socket is there, else the operator of
the cluster that your kubeconfig leads to, by port-forward and with your own rights.";

/// What Callgate does in a cluster or on this host, and what manifests would make it do.
#[derive(Debug, Parser)]
#[command(name = "kubectl-callgate", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell what is wrong with manifests, without touching anything
    Check(CheckArgs),
    /// Show what runs: objects and their conditions, nodes, problems, counters
    Status(StatusArgs),
    /// List live PPTP calls
    Calls(CallsArgs),
    /// Tell which rule a packet would meet, and why not the others
    Explain(ExplainArgs),
}

/// Who is asked, and how the answer is written.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Ask the agent that has this socket [without: /run/callgate/api.sock if it is there, else the cluster]
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["kubeconfig", "context", "operator_namespace"])]
    pub api: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub cluster: ClusterArgs,
    /// How the answer is written
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// Which cluster. Any of these makes it the cluster that is asked, whatever is on this host.
#[derive(Debug, Clone, Default, Args)]
pub struct ClusterArgs {
    /// Ask the cluster of this kubeconfig [without: KUBECONFIG, ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Ask the cluster of this context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of the operator [without: callgate-system, else looked for by label]
    #[arg(long, value_name = "NAMESPACE")]
    pub operator_namespace: Option<String>,
}

impl ClusterArgs {
    /// Whether a cluster is named.
    pub fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some() || self.operator_namespace.is_some()
    }
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Directory of *.yaml and *.yml files (not those in directories below), one file, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "DIR")]
    pub files: PathBuf,
    /// As a cluster takes them, not a single host: there only rules in the operator's namespace may select networks and other
    /// namespaces
    #[arg(long)]
    pub cluster: bool,
    /// How the answer is written
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: AgentArgs,
    /// Only objects of this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Also show counters that are zero
    #[arg(short, long)]
    pub all: bool,
}

/// Arguments of `calls`.
#[derive(Debug, Args)]
pub struct CallsArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: AgentArgs,
    /// Only calls whose rule is in this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Go on: redraw on a terminal, else append a table whenever calls come, go or change state
    #[arg(short, long)]
    pub watch: bool,
    /// With -w: a list every so many seconds, whether anything changed or not (on a terminal 1 unless given)
    #[arg(long, value_name = "SECONDS", value_parser = interval, requires = "watch")]
    pub interval: Option<Duration>,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Where the packet comes from: POD, NAMESPACE/POD, IP or IP:PORT
    #[arg(long, value_name = "POD|IP")]
    pub from: Origin,
    /// Where it goes: IP:PORT/TCP, IP:PORT/UDP, IP/icmp, IP/NUMBER
    #[arg(long, value_name = "IP:PORT/PROTO")]
    pub to: Target,
    /// Namespace of the pod, where --from gives none [without: the context's, else default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Ask these manifests, as a single host takes them, in place of an agent or a cluster
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "DIR",
        conflicts_with_all = ["api", "kubeconfig", "context", "operator_namespace"]
    )]
    pub files: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: AgentArgs,
}

impl ExplainArgs {
    /// Namespace of a pod: what `--from` says, else `--namespace`, else `unsaid`.
    pub fn namespace_of<'a>(&'a self, said: Option<&'a str>, unsaid: &'a str) -> &'a str {
        said.or(self.namespace.as_deref()).unwrap_or(unsaid)
    }
}

/// Seconds with or without a fraction, from a tenth to a day.
fn interval(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        Ok(_) | Err(_) => Err("use a number of seconds from 0.1 to 86400".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn explain_takes_files_or_a_socket_but_not_both() {
        let line = "kubectl-callgate explain --from 10.0.0.1 --to 10.0.0.2/icmp -f d --api s";
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
        assert!(error.contains("cannot be used with"), "{error}");
    }

    #[test]
    fn an_interval_is_a_number_of_seconds_and_only_for_a_watch() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map_err(|e| e.to_string());
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "NaN", "1s", "1e9"] {
            assert_eq!(interval(text), Err("use a number of seconds from 0.1 to 86400".into()), "{text}");
        }
        assert!(parse("kubectl-callgate calls -w --interval 2").is_ok());
        let error = parse("kubectl-callgate calls --interval 2").unwrap_err();
        assert!(error.contains("--watch"), "{error}");
    }

    #[test]
    fn a_wrong_target_is_explained_and_exits_with_2() {
        let line = "kubectl-callgate explain --from 10.0.0.1 --to 10.0.0.2:80";
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("say which protocol: 10.0.0.2:80/TCP or 10.0.0.2:80/UDP"), "{text}");
    }
}
