//! What a TokenReview says: which node's agent this is, or why it is none. Pure.

use k8s_openapi::api::authentication::v1::TokenReviewStatus;

use super::Refusal;

/// Where the API server tells which node a token is bound to (Kubernetes 1.30 on).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Whose tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The audience a token must be for.
    pub audience: String,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
}

/// The node of the agent that has this token.
pub fn judge(status: &TokenReviewStatus, expected: &Expected) -> Result<String, Refusal> {
    if status.authenticated != Some(true) {
        let why = status.error.as_deref().filter(|error| !error.is_empty());
        return Err(Refusal::NotAuthenticated(why.unwrap_or("the API server does not vouch for the token").to_owned()));
    }
    if !status.audiences.iter().flatten().any(|audience| *audience == expected.audience) {
        return Err(Refusal::WrongAudience(expected.audience.clone()));
    }
    let user = status.user.as_ref();
    let name = user.and_then(|user| user.username.as_deref()).unwrap_or_default();
    if name != expected.user {
        return Err(Refusal::NotAnAgent(name.to_owned()));
    }
    let extra = user.and_then(|user| user.extra.as_ref()).and_then(|extra| extra.get(NODE_NAME));
    match extra.map(Vec::as_slice) {
        Some([node]) if !node.is_empty() => Ok(node.clone()),
        Some(_) | None => Err(Refusal::NotBound),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn expected() -> Expected {
        Expected {
            audience: "callgate-operator".to_owned(),
            user: "system:serviceaccount:callgate-system:agent".to_owned(),
        }
    }

    fn good() -> Value {
        json!({
            "authenticated": true, "audiences": ["callgate-operator"],
            "user": {"username": "system:serviceaccount:callgate-system:agent",
                     "extra": {"authentication.kubernetes.io/node-name": ["a"]}},
        })
    }

    fn judged(status: Value) -> Result<String, Refusal> {
        judge(&serde_json::from_value(status).unwrap(), &expected())
    }

    #[test]
    fn an_agents_token_tells_its_node() {
        assert_eq!(judged(good()), Ok("a".to_owned()));
    }

    #[test]
    fn everything_else_is_refused_with_its_own_reason() {
        let mut audience = good();
        audience["audiences"] = json!(["https://kubernetes.default.svc"]);
        let mut user = good();
        user["user"]["username"] = json!("system:serviceaccount:pos:default");
        let mut unbound = good();
        unbound["user"]["extra"] = json!({});
        let mut twice = good();
        twice["user"]["extra"]["authentication.kubernetes.io/node-name"] = json!(["a", "b"]);
        let expired = json!({"authenticated": false, "error": "token has expired"});
        let told: Vec<Refusal> =
            [audience, user, unbound, twice, expired, json!({})].map(|status| judged(status).unwrap_err()).into();
        let expected = [
            Refusal::WrongAudience("callgate-operator".to_owned()),
            Refusal::NotAnAgent("system:serviceaccount:pos:default".to_owned()),
            Refusal::NotBound,
            Refusal::NotBound,
            Refusal::NotAuthenticated("token has expired".to_owned()),
            Refusal::NotAuthenticated("the API server does not vouch for the token".to_owned()),
        ];
        assert_eq!(told, expected);
    }
}
