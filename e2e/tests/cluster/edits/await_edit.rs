//! What a person waits for after an edit: conditions of the object, or what takes their place where they cannot speak.

use anyhow::Context as _;
use callgate_e2e::cluster::proxy::Proxy;
use callgate_e2e::wait;
use serde_json::Value;

use super::super::shared::SOON;
use super::dice::Edit;
use super::model::{Key, Model};
use super::objects::path;

/// A condition of an object about the generation that stands there: status and reason.
fn condition(object: &Value, kind: &str) -> Option<(String, String)> {
    let all = object["status"]["conditions"].as_array()?;
    let one = all.iter().find(|condition| condition["type"] == kind)?;
    (one["observedGeneration"] == object["metadata"]["generation"])
        .then(|| (one["status"].as_str().unwrap().to_owned(), one["reason"].as_str().unwrap().to_owned()))
}

/// Waits until the condition Programmed is True, or, where the object is not good, until it says why it is not.
fn settled(proxy: &Proxy<'_>, plural: &str, key: Key, good: bool) -> anyhow::Result<()> {
    let mut last = Value::Null;
    let done = wait::until_true(&format!("{plural} {key:?}, good: {good}"), SOON, || {
        last = proxy.get(&path(plural, key))?;
        let told = condition(&last, "Programmed");
        Ok(told.is_some_and(|(status, reason)| status == "True" || (!good && reason != "Pending")))
    });
    done.with_context(|| last["status"].to_string())
}

/// Waits until the number of clients of every rule is what it has to be: the way to know of labels.
fn clients(proxy: &Proxy<'_>, model: &Model) -> anyhow::Result<()> {
    for key in model.rules.keys() {
        let mut last = Value::Null;
        let wanted = model.clients(*key);
        let done = wait::until_true(&format!("{wanted} clients of {key:?}"), SOON, || {
            last = proxy.get(&path("iprules", *key))?;
            Ok(last["status"]["clients"] == wanted)
        });
        done.with_context(|| last["status"].to_string())?;
    }
    Ok(())
}

/// Waits until an event says that what was deleted is in force nowhere any more.
fn removed(proxy: &Proxy<'_>, namespace: &str, gone: &Value) -> anyhow::Result<()> {
    let uid = &gone["metadata"]["uid"];
    wait::until_true(&format!("the event about {gone}"), SOON, || {
        let events = proxy.get(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"))?;
        let all = events["items"].as_array().into_iter().flatten();
        Ok(all.into_iter().any(|event| event["reason"] == "Removed" && event["regarding"]["uid"] == *uid))
    })
}

/// Waits until the object says that something it names is gone.
fn unresolved(proxy: &Proxy<'_>, plural: &str, key: Key) -> anyhow::Result<()> {
    wait::until_true(&format!("{plural} {key:?} misses something"), SOON, || {
        let object = proxy.get(&path(plural, key))?;
        Ok(condition(&object, "ResolvedRefs").is_some_and(|(status, _)| status == "False"))
    })
}

/// Waits for every rule that is right to be in force: one that waited for a service or an ALG comes with it.
fn all_rules(proxy: &Proxy<'_>, model: &Model) -> anyhow::Result<()> {
    let good = model.rules.keys().filter(|key| model.is_good(**key));
    good.into_iter().try_for_each(|key| settled(proxy, "iprules", *key, true))
}

/// Waits as long as it takes; which kind of wait it was.
pub(super) fn await_edit(proxy: &Proxy<'_>, model: &Model, edit: Edit, made: &Value) -> anyhow::Result<&'static str> {
    match edit {
        Edit::PutRule(key) => {
            settled(proxy, "iprules", key, model.is_good(key))?;
            Ok(if model.is_good(key) { "rule, Programmed" } else { "rule, not good" })
        }
        Edit::PutService(key) => {
            settled(proxy, "ipservices", key, model.is_good_service(key))?;
            all_rules(proxy, model)?;
            Ok("service, Programmed")
        }
        Edit::PutAlg(key) => {
            settled(proxy, "pptpalgs", key, true)?;
            all_rules(proxy, model)?;
            Ok("ALG, Programmed")
        }
        Edit::DeleteRule(key) => removed(proxy, key.0, made).map(|()| "rule, Removed"),
        Edit::DeleteService(key) => match model.carriers(key).as_slice() {
            [] => removed(proxy, key.0, made).map(|()| "service, Removed"),
            // One that finds another of that name, and is kept for another reason, has nothing to say of it, and nothing changes.
            rules => {
                let missing = rules.iter().filter(|rule| model.misses(**rule));
                missing.into_iter().try_for_each(|rule| unresolved(proxy, "iprules", *rule))?;
                Ok("service, rules say so")
            }
        },
        Edit::DeleteAlg(key) if model.carries_alg(key) => {
            model.without_alg().iter().try_for_each(|service| unresolved(proxy, "ipservices", *service))?;
            Ok("ALG, services say so")
        }
        Edit::DeleteAlg(key) => removed(proxy, key.0, made).map(|()| "ALG, Removed"),
        Edit::LabelPod(_) => clients(proxy, model).map(|()| "pod label, clients"),
        Edit::LabelNamespace(_) => clients(proxy, model).map(|()| "namespace label, clients"),
    }
}
