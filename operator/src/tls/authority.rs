//! The authority and its succession. Pure but for the keys themselves: time is a parameter.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::Error;

/// How long things last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of an authority; its successor is made when a third of it is left.
    pub authority: SignedDuration,
    /// From publishing a successor to signing with it: every agent must have read it by then.
    pub overlap: SignedDuration,
    /// Of the certificate that is served; renewed when a third of it is left.
    pub leaf: SignedDuration,
}

impl Lifetimes {
    /// Whether a successor comes to sign while the authority before it still lasts.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(self) -> Result<Self, String> {
        let most = third(self.authority) - SKEW;
        match self.overlap < most {
            true => Ok(self),
            false => Err(format!(
                "--ca-overlap {:#} is too long for --ca-lifetime {:#}: a successor is published when a third of the lifetime is left, and must sign before its end; write an overlap below {:#}",
                self.overlap,
                self.authority,
                most.max(SignedDuration::ZERO)
            )),
        }
    }
}

impl Default for Lifetimes {
    /// A year, a day, a week.
    fn default() -> Self {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        Self { authority: days(365), overlap: days(1), leaf: days(7) }
    }
}

/// A certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

/// Who signs, who will, and who did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// It signs.
    pub current: Pair,
    /// It will: published, but not used yet.
    pub next: Option<Pair>,
    /// It signed before: a certificate, still trusted until it ends.
    pub old: Option<String>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("cert", &self.cert).field("key", &"kept secret").finish()
    }
}

/// Clocks of operator and agents may differ by this much.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

impl Authority {
    /// A first one.
    pub fn new(now: Timestamp, lifetimes: Lifetimes) -> Result<Self, Error> {
        Ok(Self { current: authority(now, lifetimes.authority)?, next: None, old: None })
    }

    /// What it is to be now; `None` where nothing changes.
    pub fn renewed(&self, now: Timestamp, lifetimes: Lifetimes) -> Result<Option<Self>, Error> {
        let mut new = self.clone();
        let (_, current_end) = validity(&self.current.cert)?;
        if now >= current_end {
            // The operator was away for too long. A successor was published, and agents have read it: it signs from now on.
            // Where there is none, or it has ended too, nothing can be relied on.
            let current = match &self.next {
                Some(next) if now < validity(&next.cert)?.1 => next.clone(),
                None | Some(_) => authority(now, lifetimes.authority)?,
            };
            return Ok(Some(Self { current, next: None, old: None }));
        }
        match &self.next {
            None if current_end.duration_since(now) <= third(lifetimes.authority) => {
                new.next = Some(authority(now, lifetimes.authority)?);
            }
            Some(next) if now.duration_since(validity(&next.cert)?.0) >= lifetimes.overlap + SKEW => {
                new.old = Some(self.current.cert.clone());
                new.current = next.clone();
                new.next = None;
            }
            None | Some(_) => {}
        }
        if let Some(old) = &self.old
            && now >= validity(old)?.1
            && new.old == self.old
        {
            new.old = None;
        }
        Ok((new != *self).then_some(new))
    }

    /// Every certificate an agent is to trust, PEM.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|next| next.cert.as_str());
        [Some(self.current.cert.as_str()), next, self.old.as_deref()].into_iter().flatten().collect()
    }

    /// A certificate for a server of these names, signed by the current authority.
    pub fn issue(&self, names: &[String], now: Timestamp, lifetimes: Lifetimes) -> Result<Pair, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        let (_, authority_end) = validity(&self.current.cert)?;
        params.distinguished_name = name("callgate-operator");
        params.not_before = time(now - SKEW)?;
        params.not_after = time((now + lifetimes.leaf).min(authority_end))?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let signer = KeyPair::from_pem(&self.current.key).map_err(|_| Error::Stored("ca.key"))?;
        let issuer = Issuer::from_ca_cert_pem(&self.current.cert, signer)?;
        Ok(Pair { cert: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
    }

    /// Whether a served certificate has to be made anew: two thirds of its life are over, or another authority signs now, or the
    /// clock has been set back to before its life.
    pub fn is_due(&self, leaf: &Pair, signed_by: &str, now: Timestamp) -> Result<bool, Error> {
        let (from, until) = validity(&leaf.cert)?;
        let left = until.duration_since(now);
        Ok(signed_by != self.current.cert || now < from || left <= third(until.duration_since(from)))
    }
}

/// A new authority.
fn authority(now: Timestamp, lifetime: SignedDuration) -> Result<Pair, Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    // A name of its own, so that whoever checks a chain does not try the wrong one of two.
    params.distinguished_name = name(&format!("callgate {}", now.strftime("%Y-%m-%dT%H:%M:%SZ")));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = time(now - SKEW)?;
    params.not_after = time(now + lifetime)?;
    Ok(Pair { cert: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn third(of: SignedDuration) -> SignedDuration {
    of / 3
}

fn time(at: Timestamp) -> Result<time::OffsetDateTime, Error> {
    time::OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| Error::Stored("time"))
}

/// From when until when the first certificate of `pem` is valid.
pub(super) fn validity(pem: &str) -> Result<(Timestamp, Timestamp), Error> {
    let stored = || Error::Stored("ca.crt");
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| stored())?;
    let cert = block.parse_x509().map_err(|_| stored())?;
    let at = |seconds: i64| Timestamp::from_second(seconds).map_err(|_| stored());
    Ok((at(cert.validity().not_before.timestamp())?, at(cert.validity().not_after.timestamp())?))
}

#[cfg(test)]
mod tests;
