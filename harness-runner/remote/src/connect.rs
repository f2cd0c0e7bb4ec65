//! The connection to an engine, and what the engine says that it can do.

use crate::{
    api::execution::{self, capabilities_client::CapabilitiesClient, digest_function},
    failure::words,
    settings::{AddressError, Settings},
    token::{Bearer, TokenError},
};
use std::{fs, io, path::PathBuf, time::Duration};
use thiserror::Error;
use tonic::{
    Code, Status,
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// The time limit for a connection, and for an answer to a small question.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The most bytes of one message where the engine names no limit, or a larger one. A message of gRPC has
/// 4 MiB at most unless both sides agree on more.
const MOST_OF_MESSAGE: u64 = 3 * 1024 * 1024;

/// A connection on which each call has the token.
pub(crate) type Calls = InterceptedService<Channel, Bearer>;

/// An error that leaves no engine to work with.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The settings are wrong.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A certificate or key cannot be read.
    #[error("failed to read `{path}`: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is no connection.
    #[error("no engine can be reached at `{address}`: {why}")]
    Unreachable {
        /// The address.
        address: String,
        /// The reason.
        why: String,
    },
    /// Something answers that is no engine, or not for us.
    #[error("the engine at `{address}` cannot be used: {why}")]
    Unusable {
        /// The address.
        address: String,
        /// The reason.
        why: String,
    },
    /// There are no threads for the connection.
    #[error("failed to start the client of the engine: {0}")]
    Runtime(io::Error),
}

/// A connection, and the limits of the engine behind it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) calls: Calls,
    pub(crate) bearer: Bearer,
    pub(crate) instance: String,
    /// The most bytes of one message.
    pub(crate) batch: u64,
}

impl Connection {
    pub(crate) async fn open(settings: &Settings) -> Result<Self, ConnectError> {
        settings.check()?;
        let bearer = Bearer::new(settings.token.clone())?;
        let channel = channel(settings).await?;
        let calls = InterceptedService::new(channel, bearer.clone());
        let batch = ask(&calls, settings).await?;
        Ok(Self {
            calls,
            bearer,
            instance: settings.instance.clone(),
            batch,
        })
    }
}

async fn channel(settings: &Settings) -> Result<Channel, ConnectError> {
    let address = settings.parsed()?;
    let scheme = if address.tls { "https" } else { "http" };
    let form = |_| AddressError::Form(settings.address.clone());
    let uri = format!("{scheme}://{}", address.authority);
    let mut endpoint = Endpoint::from_shared(uri)
        .map_err(form)?
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        // A worker that is cut off is noticed, and a firewall does not forget the connection.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .keep_alive_while_idle(true);
    if address.tls {
        let tls = tls(settings)?;
        endpoint = endpoint
            .tls_config(tls)
            .map_err(|error| unreachable(settings, &error))?;
    }
    let connected = endpoint.connect().await;
    connected.map_err(|error| unreachable(settings, &error))
}

fn tls(settings: &Settings) -> Result<ClientTlsConfig, ConnectError> {
    let read = |path: &PathBuf| {
        let pem = fs::read(path);
        pem.map_err(|source| ConnectError::Pem {
            path: path.clone(),
            source,
        })
    };
    let mut tls = match &settings.tls.ca {
        Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let (Some(certificate), Some(key)) = (&settings.tls.certificate, &settings.tls.key) {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    if let Some(name) = &settings.tls.name {
        tls = tls.domain_name(name);
    }
    Ok(tls)
}

/// Returns the causes of an error in one line, each once. The outer ones of a transport say nothing.
fn causes(error: &dyn std::error::Error) -> String {
    let mut all = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !all.iter().any(|before| before.contains(&text)) {
            all.push(text);
        }
        source = cause.source();
    }
    all.retain(|text| text != "transport error");
    all.join(": ")
}

fn unreachable(settings: &Settings, error: &dyn std::error::Error) -> ConnectError {
    ConnectError::Unreachable {
        address: settings.address.clone(),
        why: causes(error),
    }
}

/// Asks what the engine can do. Returns the most bytes of one message.
async fn ask(calls: &Calls, settings: &Settings) -> Result<u64, ConnectError> {
    let unusable = |why: String| ConnectError::Unusable {
        address: settings.address.clone(),
        why,
    };
    let request = execution::GetCapabilitiesRequest {
        instance_name: settings.instance.clone(),
    };
    let mut client = CapabilitiesClient::new(calls.clone());
    let answer = tokio::time::timeout(ANSWER_LIMIT, client.get_capabilities(request)).await;
    let answer = match answer {
        Err(_) => Err(unusable(format!(
            "it did not say within {} s what it can do",
            ANSWER_LIMIT.as_secs()
        ))),
        Ok(Err(status)) => Err(unusable(no_answer(&status, settings))),
        Ok(Ok(answer)) => Ok(answer.into_inner()),
    }?;
    let limits = answer.cache_capabilities.unwrap_or_default();
    let Some(executes) = answer
        .execution_capabilities
        .filter(|able| able.exec_enabled)
    else {
        return Err(unusable(
            "it stores results and executes nothing; the address of one that executes is needed"
                .to_owned(),
        ));
    };
    let sha256 = digest_function::Value::Sha256 as i32;
    let offered = [&executes.digest_functions, &limits.digest_functions];
    let offered = offered
        .into_iter()
        .flatten()
        .chain([&executes.digest_function]);
    // An engine that names none at all is older than the question.
    let mut named = offered.filter(|function| **function != 0).peekable();
    if named.peek().is_some() && !named.any(|function| *function == sha256) {
        return Err(unusable(
            "it does not know SHA-256, by which files are named here".to_owned(),
        ));
    }
    Ok(match u64::try_from(limits.max_batch_total_size_bytes) {
        Ok(limit @ 1..) => limit.min(MOST_OF_MESSAGE),
        _ => MOST_OF_MESSAGE,
    })
}

/// Returns why an engine does not say what it can do.
fn no_answer(status: &Status, settings: &Settings) -> String {
    let why = words(status);
    let plain = settings.address.starts_with("grpc://");
    match status.code() {
        Code::Unimplemented => format!("there is no Remote Execution API at this address: {why}"),
        Code::NotFound | Code::InvalidArgument if settings.instance.is_empty() => {
            format!("it may want the name of an instance: {why}")
        }
        Code::NotFound | Code::InvalidArgument => {
            format!(
                "it may not have the instance `{}`: {why}",
                settings.instance
            )
        }
        Code::Unauthenticated if matches!(settings.token, crate::Token::None) => {
            format!("it wants a token, and none is set: {why}")
        }
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled if plain => {
            format!(
                "{why}; it may want TLS: `{}`",
                settings.address.replacen("grpc:", "grpcs:", 1)
            )
        }
        // Only after the connection stands does a server with TLS say what it thinks of the caller, and not
        // always before it is gone.
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled => {
            match settings.tls.certificate {
                None => format!("{why}; it may want a certificate, and none is set"),
                Some(_) => format!("{why}; it may not accept the certificate"),
            }
        }
        _ => why,
    }
}
