//! Our kinds in a real API server: they are taken, and wrong objects are refused with a message that helps.

use std::fs;
use std::path::{Path, PathBuf};

use super::shared::{POD, SOON, Shared};

/// A field without a value is as good as none for standalone. The API server refuses it where the field is a list or a mapping.
const STRICTER: &str = "fields-without-a-value.yaml";

fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Our kinds are installed; the namespaces that the files of examples use exist.
fn install(shared: &Shared) {
    let crds = fs::read_to_string(tree("crds/generated/all.yaml")).unwrap();
    shared.kubectl().apply(&crds).unwrap();
    shared.k(&format!("wait --for=condition=Established crd/pptpalgs.callgate.io crd/ipservices.callgate.io crd/iprules.callgate.io {POD}"));
    for namespace in ["callgate-system", "pos"] {
        let object = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}");
        shared.kubectl().apply(&object).unwrap();
    }
    // The API server serves a new kind a moment after it is established.
    callgate_e2e::wait::until_true("the kinds are served", SOON, || {
        Ok(shared.kubectl().output(&["get", "iprules,ipservices,pptpalgs", "-A"], "")?.status.success())
    })
    .unwrap();
}

fn yaml(dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(tree(dir)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|name| name == "yaml")).collect();
    files.sort();
    files
}

#[test]
fn the_kinds_the_predefined_services_and_good_manifests_are_taken() {
    let Some(shared) = Shared::get("the_kinds_the_predefined_services_and_good_manifests_are_taken") else { return };
    install(&shared);
    let predefined: Vec<String> =
        yaml("crds/predefined").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let applied = shared.kubectl().apply(&predefined.join("\n---\n")).unwrap();
    let count = predefined.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with("kind: ")).count();
    assert_eq!(applied.lines().count(), count, "{applied}");
    let names = shared.k("-n callgate-system get ipservices,pptpalgs -o name");
    assert_eq!(names.lines().count(), count, "{names}");
    // A name of ours does not stand in the way of the cluster's own kind.
    assert!(shared.k("get services -A -o name").contains("service/kubernetes"));
    // Installed again, nothing changes.
    let version = "-n callgate-system get ipsvc pptp-ctl -o jsonpath={.metadata.resourceVersion}";
    let before = shared.k(version);
    shared.kubectl().apply(&predefined.join("\n---\n")).unwrap();
    assert_eq!(shared.k(version), before);
    for path in yaml("crds/tests/good") {
        let output =
            shared.kubectl().output(&["apply", "--server-side", "--dry-run=server", "-f", path.to_str().unwrap()], "");
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if path.ends_with(STRICTER) {
            assert!(said.contains("must be of type object: \"null\""), "{}: {said}", path.display());
        } else {
            assert!(output.status.success(), "{}: {said}", path.display());
        }
    }
}

/// Files about which the API server does not name the field.
const IN_ITS_OWN_WORDS: [(&str, &str); 4] = [
    ("api-version-of-a-later-release.yaml", "no matches for kind \"Service\" in version \"callgate.io/v1\""),
    ("label-that-is-a-number.yaml", "metadata.labels of type string"),
    ("name-missing.yaml", "resource name may not be empty"),
    ("namespace-with-a-dot.yaml", "namespaces \"pos.example\" not found"),
];

/// What has to be in the API server's words for a file that says `# expect: FIELD: TEXT`: the field, and the text where it is ours (a
/// CEL rule's message).
fn wanted<'a>(name: &str, expected: &'a str, ours: &str) -> Vec<&'a str> {
    if let Some((_, words)) = IN_ITS_OWN_WORDS.iter().find(|(file, _)| *file == name) {
        return vec![words];
    }
    let told = expected.split_once(": ").map(|(field, text)| match text.split_once(": ") {
        // The value, which the API server says in its own words.
        Some((value, message)) if value.starts_with("is \"") => (field, message),
        Some(_) | None => (field, text),
    });
    match told {
        Some((field, text)) if ours.contains(text) => vec![field, text],
        Some((field, _)) => vec![field],
        None => vec![expected],
    }
}

#[test]
fn the_api_server_refuses_every_manifest_of_wrong_shape_and_says_what_is_wrong() {
    let Some(shared) = Shared::get("the_api_server_refuses_every_manifest_of_wrong_shape_and_says_what_is_wrong")
    else {
        return;
    };
    install(&shared);
    let crds = fs::read_to_string(tree("crds/generated/all.yaml")).unwrap();
    // Long messages are folded over lines.
    let ours = crds.split_whitespace().collect::<Vec<_>>().join(" ");
    let files = yaml("crds/tests/bad");
    assert!(files.len() >= 70, "{}", files.len());
    let mut wrong = Vec::new();
    let mut by_rule = 0;
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        let expected = text.lines().find_map(|line| line.strip_prefix("# expect: ")).unwrap();
        let wanted = wanted(path.file_name().unwrap().to_str().unwrap(), expected, &ours);
        by_rule += usize::from(wanted.len() == 2);
        let args = ["apply", "--server-side", "--dry-run=server", "-f", path.to_str().unwrap()];
        let output = shared.kubectl().output(&args, "").unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() || !wanted.iter().all(|words| said.contains(words)) {
            wrong.push(format!("{}: refused {}, wanted {wanted:?}: {said}", path.display(), !output.status.success()));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), files.len(), wrong.join("\n"));
    assert!(by_rule >= 30, "{by_rule} files are refused by a rule of ours");
}

#[test]
fn a_label_without_a_value_selects_the_empty_value_and_not_everything() {
    let Some(shared) = Shared::get("a_label_without_a_value_selects_the_empty_value_and_not_everything") else {
        return;
    };
    install(&shared);
    let rule = "apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: no-value, namespace: default}
spec:
  order: 1
  action: Drop
  source: {podSelector: {matchLabels: {app: , tier: x}}}
  services: [{name: all}]
";
    // `apply` on the client's side does not send it at all.
    for verb in [&["create"][..], &["apply", "--server-side"]] {
        let args = [verb, &["--dry-run=server", "-o", "jsonpath={.spec.source}", "-f", "-"]].concat();
        let output = shared.kubectl().output(&args, rule).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = r#"{"podSelector":{"matchLabels":{"app":"","tier":"x"}}}"#;
        assert_eq!(said, expected, "{verb:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
