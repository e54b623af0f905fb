//! The cluster's own CA and a certificate for each part, as the Kubernetes documents on PKI name them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A CA that lives as long as the cluster.
pub(super) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Files of one identity.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Authority {
    /// Makes the CA; its certificate is `ca.crt` in `dir`.
    pub(super) fn create(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "callgate-lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("key of the CA")?;
        let certificate = params.self_signed(&key).context("certificate of the CA")?;
        fs::write(dir.join("ca.crt"), certificate.pem()).context("ca.crt")?;
        Ok(Self { dir: dir.into(), issuer: Issuer::new(params, key) })
    }

    /// The CA's certificate.
    pub(super) fn certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A certificate for `name`, in group `group` where not empty, that is good for these host names and addresses.
    pub(super) fn issue(&self, name: &str, group: &str, hosts: &[String]) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::new(hosts).with_context(|| format!("names of {name}"))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().with_context(|| format!("key of {name}"))?;
        let certificate = params.signed_by(&key, &self.issuer).with_context(|| format!("certificate of {name}"))?;
        let stem = name.replace(':', "-");
        let identity =
            Identity { certificate: self.dir.join(format!("{stem}.crt")), key: self.dir.join(format!("{stem}.key")) };
        fs::write(&identity.certificate, certificate.pem()).context("certificate file")?;
        fs::write(&identity.key, key.serialize_pem()).context("key file")?;
        Ok(identity)
    }
}
