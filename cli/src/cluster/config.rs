//! From flags and environment to a client of the API server: as kubectl finds it.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::ClusterError;
use crate::args::ClusterArgs;

/// How long the API server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A client, the URL of its API server, and the namespace of the context.
pub(super) async fn client(args: &ClusterArgs) -> Result<(Client, String, String), ClusterError> {
    // The program has one crypto provider; whoever comes second finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = config(args).await?;
    config.connect_timeout = Some(CONNECT_WITHIN);
    // A watch may be silent for long: the gRPC channel looks after itself with pings.
    config.read_timeout = None;
    let (server, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| ClusterError::Kubeconfig(error.to_string()))?;
    Ok((client, server, namespace))
}

async fn config(args: &ClusterArgs) -> Result<Config, ClusterError> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let unusable = |error: KubeconfigError| ClusterError::Kubeconfig(error.to_string());
    let kubeconfig = match &args.kubeconfig {
        Some(file) => read(file)?,
        None => match Kubeconfig::read() {
            Ok(kubeconfig) => kubeconfig,
            // A pod has none; it has an account.
            Err(error) if nowhere(&error) => return Config::incluster().map_err(|_| none(&error)),
            Err(error) => return Err(unusable(error)),
        },
    };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)
}

fn read(file: &Path) -> Result<Kubeconfig, ClusterError> {
    Kubeconfig::read_from(file).map_err(|error| match error {
        KubeconfigError::ReadConfig(source, path) => {
            ClusterError::Kubeconfig(format!("--kubeconfig {}: {source}", path.display()))
        }
        error => ClusterError::Kubeconfig(format!("--kubeconfig {}: {error}", file.display())),
    })
}

fn nowhere(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(source, _) => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn none(error: &KubeconfigError) -> ClusterError {
    let cause = match error {
        KubeconfigError::ReadConfig(source, path) => format!("{}: {source}", path.display()),
        error => error.to_string(),
    };
    ClusterError::NoKubeconfig { cause, socket: callgate_proto::DEFAULT_API_SOCKET }
}
