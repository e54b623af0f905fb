//! Every wrong manifest in tests/bad is refused with the message its first line expects.

use std::path::Path;

use callgate_compile::compile;

use super::support::read;

#[test]
fn every_wrong_manifest_is_refused_with_a_message_that_says_what_to_do() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let expected = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# expect: "))
            .unwrap_or_else(|| panic!("{} does not begin with `# expect: `", file.display()));
        let parsed = read(&text);
        let compiled = compile(&parsed.world, None);
        let problems = parsed.problems.iter().map(|p| format!("{} {} {}", p.object, p.field, p.message));
        let conditions = compiled.statuses.iter().flat_map(|(object, status)| {
            let worth = status.conditions.iter().filter(|c| !c.findings.is_empty());
            worth.map(move |c| format!("{object} {} {}", c.reason, c.message))
        });
        let said: Vec<String> = problems.chain(conditions).collect();
        if !said.iter().any(|message| message.contains(expected)) {
            wrong.push(format!("{}: expected {expected:?}, got {said:#?}", file.display()));
        }
    }
    assert!(files.len() >= 25, "only {} wrong manifests", files.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
