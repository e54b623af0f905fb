//! What the client is told about silence.

use super::*;

#[test]
fn connections_on_which_no_answer_comes_are_given_up_and_those_nobody_used_are_not_blamed() {
    let config = attentive(Config::new("https://10.96.0.1".parse().unwrap()));
    let told = (config.connect_timeout, config.read_timeout, config.reset_reader_on_write);
    assert_eq!(told, (Some(CONNECT), Some(SILENCE), true));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_answered_is_an_error_that_says_so() {
    let error = in_time(std::future::pending::<Result<(), kube::Error>>()).await.unwrap_err();
    assert_eq!(error.to_string(), "the API server did not answer in 10 s");
}
