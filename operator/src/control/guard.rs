//! Who may attach: tokens are shown to the API server, its answers remembered for a short while, refusals told and counted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::review::{Expected, judge};
use super::turns::Turns;

/// How long a good answer is remembered: an agent whose stream breaks comes back at once, and a token that was withdrawn must
/// not live on here.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Most answers that are remembered.
const MOST: usize = 4096;
/// How long the API server may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why an agent was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token.
    #[error("no token: send it as metadata `authorization: Bearer TOKEN`")]
    NoToken,
    /// The API server does not know it, or it has expired, or it is for another audience.
    #[error("the token was refused: {0}")]
    NotAuthenticated(String),
    /// It is for somebody else.
    #[error("the token is not for audience {0}")]
    WrongAudience(String),
    /// It is of another service account.
    #[error("{0:?} is not the service account of the agents")]
    NotAnAgent(String),
    /// It is not bound to a pod on a node.
    #[error("the token is bound to no node: use a projected token of the agent's own pod (Kubernetes 1.30 or later)")]
    NotBound,
    /// It is of another node than the agent says it runs on.
    #[error("the token is of node {token}, and the agent runs on node {agent}")]
    OtherNode {
        /// The token's.
        token: String,
        /// What the agent said.
        agent: String,
    },
    /// Something else came before hello, or nothing did.
    #[error("the first message must be hello")]
    NoHello,
    /// The API server could not be asked.
    #[error("the API server could not be asked: {0}")]
    Unavailable(String),
}

impl Refusal {
    /// As a label of a metric.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::NotAuthenticated(_) => "not_authenticated",
            Self::WrongAudience(_) => "wrong_audience",
            Self::NotAnAgent(_) => "not_an_agent",
            Self::NotBound => "not_bound",
            Self::OtherNode { .. } => "other_node",
            Self::NoHello => "no_hello",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl From<&Refusal> for Status {
    fn from(refusal: &Refusal) -> Self {
        let code = match refusal {
            Refusal::NoToken | Refusal::NotAuthenticated(_) | Refusal::WrongAudience(_) => Code::Unauthenticated,
            Refusal::NotAnAgent(_) | Refusal::NotBound | Refusal::OtherNode { .. } => Code::PermissionDenied,
            Refusal::NoHello => Code::InvalidArgument,
            Refusal::Unavailable(_) => Code::Unavailable,
        };
        Self::new(code, refusal.to_string())
    }
}

/// Shows tokens to the API server.
pub struct Guard {
    reviews: Api<TokenReview>,
    expected: Expected,
    /// Nodes by the digest of their token: the tokens themselves are not kept.
    known: Mutex<HashMap<[u8; 32], (String, Instant)>>,
    turns: Turns,
}

impl Guard {
    /// Takes tokens as `expected`.
    pub fn new(client: Client, expected: Expected) -> Self {
        Self { reviews: Api::all(client), expected, known: Mutex::default(), turns: Turns::default() }
    }

    /// The node of the agent at `address` that sent this metadata.
    pub async fn node(&self, address: IpAddr, metadata: &MetadataMap) -> Result<String, Refusal> {
        let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(|header| header.strip_prefix("Bearer ")).filter(|token| !token.is_empty());
        let token = token.ok_or(Refusal::NoToken)?;
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(node) = self.remembered(&digest) {
            return Ok(node);
        }
        let unavailable = || Refusal::Unavailable("the operator is stopping".to_owned());
        let turn = self.turns.wait(address).await.ok_or_else(unavailable)?;
        // Another stream may have shown the same token meanwhile.
        if let Some(node) = self.remembered(&digest) {
            turn.pass_on();
            return Ok(node);
        }
        let node = self.review(token).await?;
        turn.pass_on();
        let now = Instant::now();
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < MOST {
            known.insert(digest, (node.clone(), now + REMEMBERED));
        }
        Ok(node)
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<String> {
        let known = self.lock();
        let (node, until) = known.get(digest)?;
        (Instant::now() < *until).then(|| node.clone())
    }

    async fn review(&self, token: &str) -> Result<String, Refusal> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![self.expected.audience.clone()]),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let params = PostParams::default();
        let asked = tokio::time::timeout(TIMEOUT, self.reviews.create(&params, &review)).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(Error::Api(status))) => return Err(Refusal::Unavailable(status.message.clone())),
            Ok(Err(error)) => return Err(Refusal::Unavailable(error.to_string())),
            Err(_) => return Err(Refusal::Unavailable("no answer in time".to_owned())),
        };
        judge(&answer.status.unwrap_or_default(), &self.expected)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], (String, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
