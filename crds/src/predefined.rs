//! The predefined objects: services everybody names, and PPTP with its ALG, as manifests.

/// File name (in `crds/predefined`) and YAML text of each. All objects are in [`crate::SYSTEM_NAMESPACE`]; put them
/// elsewhere by changing `metadata.namespace`.
pub const fn predefined() -> &'static [(&'static str, &'static str)] {
    &[
        ("all.yaml", include_str!("../predefined/all.yaml")),
        ("infrastructure.yaml", include_str!("../predefined/infrastructure.yaml")),
        ("mail.yaml", include_str!("../predefined/mail.yaml")),
        ("pptp.yaml", include_str!("../predefined/pptp.yaml")),
        ("remote.yaml", include_str!("../predefined/remote.yaml")),
        ("vpn.yaml", include_str!("../predefined/vpn.yaml")),
        ("web.yaml", include_str!("../predefined/web.yaml")),
    ]
}
