//! Certificates for an engine with TLS, made anew for each test.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::{fs, io, path::Path};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// One that vouches for engines and for those who call them.
#[derive(Debug)]
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// The certificate of an engine with TLS, and the authority of those who may call it.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Its own certificate.
    pub own: Pair,
    /// The certificate of the authority that has to vouch for a caller; `None` for any caller.
    pub callers: Option<String>,
}

impl Authority {
    /// Makes one with this name.
    ///
    /// # Errors
    ///
    /// When no key can be made.
    pub fn new(name: &str) -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            certificate,
            issuer,
        })
    }

    /// Returns its certificate, as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Vouches for a new key under a name: of a host, or of an IP address.
    ///
    /// # Errors
    ///
    /// When the name is neither, or no key can be made.
    pub fn vouch_for(&self, name: &str) -> io::Result<Pair> {
        let params = CertificateParams::new([name.to_owned()]).map_err(io::Error::other)?;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let signed = params.signed_by(&key, &self.issuer);
        Ok(Pair {
            certificate: signed.map_err(io::Error::other)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Pair {
    /// Writes `NAME.pem` and `NAME.key` into a folder.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<()> {
        fs::write(folder.join(format!("{name}.pem")), &self.certificate)?;
        fs::write(folder.join(format!("{name}.key")), &self.key)
    }
}

impl ServerTls {
    pub(super) fn config(&self) -> ServerTlsConfig {
        let own = Identity::from_pem(&self.own.certificate, &self.own.key);
        let config = ServerTlsConfig::new().identity(own);
        match &self.callers {
            Some(authority) => config.client_ca_root(Certificate::from_pem(authority)),
            None => config,
        }
    }
}
