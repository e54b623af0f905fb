//! Documents into objects: kind by kind, with every problem named.

use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::{API_VERSION, DEFAULT_NAMESPACE, IpRule, Kind, PptpAlg, Service, schema};
use callgate_proto::model::ObjectKey;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::documents::documents;
use super::{Parsed, Problem};
use crate::status::ObjectRef;
use crate::world::{Meta, Object, Pod, World};

/// Collects objects file by file.
pub(super) struct Reader {
    world: World,
    problems: Vec<Problem>,
    foreign: Vec<Problem>,
    refused: BTreeSet<ObjectRef>,
    broken_files: BTreeSet<String>,
    /// Where each object was read: file and line. Predefined ones are not in it.
    places: BTreeMap<(String, ObjectKey), (String, u32)>,
}

/// Where a document is, and whether it comes with the product.
struct At<'a> {
    file: &'a str,
    line: u32,
    predefined: bool,
}

impl Reader {
    pub(super) fn new(standalone: bool) -> Self {
        Self {
            world: if standalone { World::standalone() } else { World::cluster() },
            problems: Vec::new(),
            foreign: Vec::new(),
            refused: BTreeSet::new(),
            broken_files: BTreeSet::new(),
            places: BTreeMap::new(),
        }
    }

    pub(super) fn file(&mut self, file: &str, text: &str, predefined: bool) {
        for document in documents(text) {
            let at = At { file, line: document.line, predefined };
            match document.value {
                Ok(Value::Null) => {}
                Ok(value) => self.document(&at, value, &document.items),
                Err((line, error)) => {
                    self.broken_files.insert(file.to_owned());
                    let message = format!("is not YAML: {error}; mend it at this line (indentation, quotes, brackets)");
                    self.problem(&At { line, ..at }, "", "", message);
                }
            }
        }
    }

    pub(super) fn finish(mut self) -> Parsed {
        self.problems.sort();
        self.problems.dedup();
        self.foreign.sort();
        self.world.refused.clone_from(&self.refused);
        let ours = self
            .places
            .into_iter()
            .filter_map(|((kind, key), place)| Kind::from_name(&kind).map(|kind| (ObjectRef { kind, key }, place)));
        Parsed {
            world: self.world,
            problems: self.problems,
            foreign: self.foreign,
            places: ours.collect(),
            refused: self.refused,
            broken_files: self.broken_files,
        }
    }

    fn problem(&mut self, at: &At<'_>, object: &str, field: &str, message: String) {
        self.problems.push(Problem {
            file: at.file.to_owned(),
            line: at.line,
            object: object.to_owned(),
            field: field.to_owned(),
            message,
        });
    }

    /// `items`: the lines on which the items of a list begin, where they are known.
    fn document(&mut self, at: &At<'_>, value: Value, items: &[u32]) {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (mut version, mut kind) = (text("apiVersion"), text("kind"));
        // The one file that kustomize takes without them.
        if kind.is_empty() && matches!(at.file, "kustomization.yaml" | "kustomization.yml") {
            (version, kind) = ("kustomize.config.k8s.io/v1beta1".to_owned(), "Kustomization".to_owned());
        }
        if version == "v1" && kind == "List" {
            let all = value.get("items").and_then(Value::as_array).into_iter().flatten();
            for (index, item) in all.enumerate() {
                let line = items.get(index).copied().unwrap_or(at.line);
                self.document(&At { line, ..*at }, item.clone(), &[]);
            }
            return;
        }
        if !self.world.standalone && is_foreign(&version, &kind, &value) {
            let message = "is none of Callgate's kinds: left alone".to_owned();
            let key = key(&value);
            let object = if key.name.is_empty() { kind } else { format!("{kind} {key}") };
            let file = at.file.to_owned();
            return self.foreign.push(Problem { file, line: at.line, object, field: String::new(), message });
        }
        match (version.as_str(), kind.as_str()) {
            ("v1", "Pod") => self.pod(at, value),
            ("v1", "Namespace") => self.namespace(at, value),
            _ => match Kind::from_name(&kind) {
                Some(kind) => self.ours(at, kind, value),
                None if kind == "EgressGateway" => {
                    let message =
                        "EgressGateway is not there yet: remove it, and traffic takes the address of the node it is on";
                    self.problem(at, "", "kind", message.to_owned());
                }
                None => {
                    let near = schema::nearest(&kind, ["PptpAlg", "Service", "IpRule", "Pod", "Namespace"]);
                    let hint = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
                    let what = if kind.is_empty() { "no kind".to_owned() } else { format!("kind {kind}{hint}") };
                    let message = format!(
                        "{what} of {}: write apiVersion: {API_VERSION} with kind PptpAlg, Service or IpRule (core/v1 Pod and \
                         Namespace are read too)",
                        if version.is_empty() { "no apiVersion" } else { &version }
                    );
                    self.problem(at, "", "kind", message);
                }
            },
        }
    }

    fn ours(&mut self, at: &At<'_>, kind: Kind, mut value: Value) {
        let key = key(&value);
        let named = ObjectRef { kind, key: key.clone() };
        let problems = schema::validate(kind, &mut value);
        if !problems.is_empty() {
            for found in problems {
                self.problem(at, &named.to_string(), &found.path, found.message);
            }
            self.refused.insert(named);
            return;
        }
        if !at.predefined && self.is_second(at, kind.name(), &key, &named.to_string()) {
            return;
        }
        let meta = meta(&value, at.predefined);
        match kind {
            Kind::PptpAlg => {
                if let Some(object) = self.typed::<PptpAlg>(at, &named, value) {
                    self.world.algs.insert(key, Object { meta, spec: object.spec });
                }
            }
            Kind::Service => {
                if let Some(object) = self.typed::<Service>(at, &named, value) {
                    self.world.services.insert(key, Object { meta, spec: object.spec });
                }
            }
            Kind::IpRule => {
                if let Some(object) = self.typed::<IpRule>(at, &named, value) {
                    self.world.rules.insert(key, Object { meta, spec: object.spec });
                }
            }
        }
    }

    /// What passed the schema deserialises; should it not, that is a problem of the object and not of the program.
    fn typed<T: DeserializeOwned>(&mut self, at: &At<'_>, named: &ObjectRef, value: Value) -> Option<T> {
        match serde_json::from_value(value) {
            Ok(object) => Some(object),
            Err(error) => {
                self.problem(at, &named.to_string(), "", format!("cannot be read: {error}"));
                self.refused.insert(named.clone());
                None
            }
        }
    }

    /// Whether this object was read before; then both places are named and the first one counts.
    fn is_second(&mut self, at: &At<'_>, kind: &str, key: &ObjectKey, object: &str) -> bool {
        let id = (kind.to_owned(), key.clone());
        let Some((file, line)) = self.places.get(&id).cloned() else {
            self.places.insert(id, (at.file.to_owned(), at.line));
            return false;
        };
        let message = format!("is there already, in {file}:{line}, which counts: delete one of the two, or rename it");
        self.problem(at, object, "metadata.name", message);
        true
    }

    fn pod(&mut self, at: &At<'_>, value: Value) {
        let key = key(&value);
        let object = format!("Pod {key}");
        match serde_json::from_value::<core::Pod>(value) {
            Ok(_) if key.name.is_empty() => {
                self.problem(at, "Pod", "metadata.name", "is missing: name the pod".to_owned());
            }
            Ok(pod) => {
                if !self.is_second(at, "Pod", &key, &object) {
                    self.world.pods.insert(key, Pod::from(&pod).into());
                }
            }
            Err(error) => self.problem(at, &object, "", format!("is not a Pod: {error}")),
        }
    }

    fn namespace(&mut self, at: &At<'_>, value: Value) {
        match serde_json::from_value::<core::Namespace>(value) {
            Ok(namespace) => match namespace.metadata.name {
                Some(name) => {
                    let labels = namespace.metadata.labels.unwrap_or_default();
                    self.world.namespaces.insert(name, labels);
                }
                None => self.problem(at, "Namespace", "metadata.name", "is missing: name the namespace".to_owned()),
            },
            Err(error) => self.problem(at, "Namespace", "", format!("is not a Namespace: {error}")),
        }
    }
}

/// Whether it is an object of somebody else: of another group, of no kind of ours nor of a name like one of theirs. A Service is
/// ours by its fields: those of others have none that ours have.
fn is_foreign(version: &str, kind: &str, value: &Value) -> bool {
    let group = |version: &str| version.split_once('/').map(|(group, _)| group.to_owned());
    if version.is_empty() || kind.is_empty() || group(version) == group(API_VERSION) {
        return false;
    }
    match Kind::from_name(kind) {
        Some(Kind::PptpAlg | Kind::IpRule) => false,
        Some(Kind::Service) => {
            let fields = schema::of(Kind::Service)["properties"]["spec"]["properties"].as_object();
            let is = |name: &String| value["spec"].get(name).is_some();
            !fields.is_some_and(|fields| fields.keys().any(is))
        }
        None => !matches!(kind, "Pod" | "Namespace") && schema::nearest(kind, ["PptpAlg", "IpRule"]).is_none(),
    }
}

/// Namespace and name as written; without a namespace it is `default`.
fn key(value: &Value) -> ObjectKey {
    let metadata = value.get("metadata");
    let text = |field: &str| metadata.and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
    ObjectKey::new(text("namespace").unwrap_or(DEFAULT_NAMESPACE), text("name").unwrap_or_default())
}

fn meta(value: &Value, predefined: bool) -> Meta {
    let metadata = value.get("metadata");
    let created = metadata.and_then(|metadata| metadata.get("creationTimestamp")).and_then(Value::as_str);
    Meta {
        // Whoever edits a file edits the same object.
        uid: String::new(),
        generation: metadata.and_then(|metadata| metadata.get("generation")).and_then(Value::as_i64).unwrap_or(0),
        created: created.and_then(|text| text.parse::<Timestamp>().ok()),
        predefined,
    }
}
