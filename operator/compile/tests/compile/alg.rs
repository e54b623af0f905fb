//! An ALG that no API server would have taken, as one stored before its schema was as strict.

use callgate_compile::compile;
use callgate_crds::Kind;

use super::support::{CLASSIC, read, status};

#[test]
fn a_service_with_an_alg_that_is_not_accepted_says_which_to_mend_and_the_alg_says_what_is_wrong() {
    let mut parsed = read(CLASSIC);
    assert_eq!(parsed.problems, []);
    for object in parsed.world.algs.values_mut() {
        object.spec.idle_timeout = "for ever".into();
    }
    let compiled = compile(&parsed.world, None);
    let said = |kind, name| -> Vec<String> {
        let conditions = &status(&compiled, kind, "pos", name).conditions;
        conditions.iter().filter(|c| !c.findings.is_empty()).map(|c| format!("{} {}", c.reason, c.message)).collect()
    };
    assert_eq!(
        said(Kind::PptpAlg, "pptp"),
        [
            "Invalid spec.idleTimeout: \"for ever\": write a duration as numbers of at most five digits with the units h, m, s or ms, for example 180s, \
             1h30m or 500ms."
        ]
    );
    assert_eq!(
        said(Kind::Service, "pptp-service"),
        [
            "RefNotAccepted spec.algRef.name: PptpAlg pos/pptp is not accepted: mend it first, its status says what is wrong."
        ]
    );
}
