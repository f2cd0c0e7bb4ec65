//! The place of an engine, and the way to talk to it.

use std::path::PathBuf;
use thiserror::Error;

/// The place of an engine, and the way to talk to it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Its address: `grpc://HOST:PORT`, or `grpcs://HOST:PORT` with TLS.
    pub address: String,
    /// The name of the instance; empty for none.
    pub instance: String,
    /// Certificates for TLS.
    pub tls: Tls,
    /// The token that shows who calls.
    pub token: Token,
}

/// Certificates and names for TLS, in PEM files.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificates of those who may vouch for the engine; `None` for those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate that shows who calls.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The name in the engine's certificate; `None` for that in its address.
    pub name: Option<String>,
}

/// The origin of the token. It is read again when the engine does not accept it any more.
#[derive(Clone, Debug, Default)]
pub enum Token {
    /// There is none.
    #[default]
    None,
    /// The content of a file.
    File(PathBuf),
    /// The output of a command: the program and its arguments.
    Command(Vec<String>),
}

/// An error in settings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Its form is another.
    #[error(
        "`{0}` is no address of an engine: it has the form `grpc://HOST:PORT`, or `grpcs://HOST:PORT` with TLS"
    )]
    Form(String),
    /// Certificates are given, and it has no TLS.
    #[error(
        "certificates are set, but `{0}` has no TLS: an address with TLS begins with `grpcs://`"
    )]
    Certificates(String),
    /// A token is given, and it has no TLS.
    #[error(
        "a token would be sent to `{0}` for everyone to read: an address with TLS begins with `grpcs://`"
    )]
    Token(String),
    /// A certificate without a key, or the other way round.
    #[error("a certificate and its key have to be set together")]
    HalfPair,
}

/// An address that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) tls: bool,
    pub(crate) host: String,
    /// Host and port.
    pub(crate) authority: String,
}

impl Settings {
    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    ///
    /// When it cannot be used as it is.
    pub fn check(&self) -> Result<(), AddressError> {
        let address = self.parsed()?;
        let Tls {
            ca,
            certificate,
            key,
            name,
        } = &self.tls;
        if certificate.is_some() != key.is_some() {
            return Err(AddressError::HalfPair);
        }
        let certificates = ca.is_some() || certificate.is_some() || name.is_some();
        if certificates && !address.tls {
            return Err(AddressError::Certificates(self.address.clone()));
        }
        let has_token = !matches!(self.token, Token::None);
        if has_token && !address.tls && !address.is_loopback() {
            return Err(AddressError::Token(self.address.clone()));
        }
        Ok(())
    }

    pub(crate) fn parsed(&self) -> Result<Address, AddressError> {
        let form = || AddressError::Form(self.address.clone());
        let (scheme, authority) = self.address.split_once("://").ok_or_else(form)?;
        let tls = match scheme {
            "grpc" => false,
            "grpcs" => true,
            _ => return Err(form()),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority.rsplit_once(':').ok_or_else(form)?;
        let in_brackets = host.starts_with('[') && host.ends_with(']');
        let plain = !host.contains([':', '/', '@', '?', '#', ' ', '[', ']']);
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        if host.is_empty() || !is_port || !(plain || in_brackets) {
            return Err(form());
        }
        Ok(Address {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            authority: authority.to_owned(),
        })
    }
}

impl Address {
    fn is_loopback(&self) -> bool {
        let ip = self.host.parse::<std::net::IpAddr>();
        self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(address: &str) -> Settings {
        Settings {
            address: address.to_owned(),
            ..Settings::default()
        }
    }

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_port() {
        for right in [
            "grpc://127.0.0.1:50040",
            "grpcs://engine.example:443/",
            "grpc://[::1]:1",
        ] {
            assert_eq!(settings(right).check(), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "localhost:1",
            "http://h:1",
            "grpc://h",
            "grpc://:1",
            "grpc://h:0",
            "grpc://h:x",
            "grpc://u@h:1",
            "grpc://a:b:1",
            "grpc://h:1/x",
        ] {
            let form = AddressError::Form(wrong.to_owned());
            assert_eq!(settings(wrong).check(), Err(form), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_sent_by_tls_or_to_this_machine_only() {
        let with_token = |address: &str| Settings {
            token: Token::Command(vec!["print-token".to_owned()]),
            ..settings(address)
        };
        assert_eq!(with_token("grpc://127.0.0.1:1").check(), Ok(()));
        assert_eq!(with_token("grpc://[::1]:1").check(), Ok(()));
        assert_eq!(with_token("grpcs://engine:1").check(), Ok(()));
        let refused = AddressError::Token("grpc://engine:1".to_owned());
        assert_eq!(with_token("grpc://engine:1").check(), Err(refused));
    }

    #[test]
    fn certificates_need_tls_and_a_certificate_its_key() {
        let ca = Tls {
            ca: Some("ca.pem".into()),
            ..Tls::default()
        };
        let half = Tls {
            certificate: Some("me.pem".into()),
            ..Tls::default()
        };
        let with = |address: &str, tls: &Tls| Settings {
            tls: tls.clone(),
            ..settings(address)
        };
        let address = "grpc://engine:1";
        let refused = AddressError::Certificates(address.to_owned());
        assert_eq!(with(address, &ca).check(), Err(refused));
        assert_eq!(with("grpcs://engine:1", &ca).check(), Ok(()));
        assert_eq!(
            with("grpcs://engine:1", &half).check(),
            Err(AddressError::HalfPair)
        );
    }
}
