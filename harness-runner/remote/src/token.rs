//! The token that shows who calls. It is never printed.

use crate::settings::Token;
use std::{
    fs, io,
    process::{Command, Stdio},
    sync::{Arc, PoisonError, RwLock},
};
use thiserror::Error;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

/// An error that leaves no token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// Its file cannot be read.
    #[error("failed to read the token in `{0}`: {1}")]
    File(String, io::Error),
    /// Its command cannot be started.
    #[error("failed to start `{0}`, which prints the token: {1}")]
    Start(String, io::Error),
    /// Its command failed.
    #[error("`{0}`, which prints the token, ended with {1}")]
    Failed(String, std::process::ExitStatus),
    /// It is empty, or not of printable characters.
    #[error("{0} is no token: a token is one line of printable characters")]
    Invalid(String),
}

/// Adds the token to each call.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    from: Token,
    value: Arc<RwLock<Option<MetadataValue<Ascii>>>>,
}

impl Bearer {
    /// Reads the token. It blocks.
    pub(crate) fn new(from: Token) -> Result<Self, TokenError> {
        let bearer = Self {
            from,
            value: Arc::default(),
        };
        bearer.renew()?;
        Ok(bearer)
    }

    /// Returns whether there may be another token.
    pub(crate) fn can_renew(&self) -> bool {
        !matches!(self.from, Token::None)
    }

    /// Reads the token again. It blocks.
    pub(crate) fn renew(&self) -> Result<(), TokenError> {
        let (text, of) = match &self.from {
            Token::None => return Ok(()),
            Token::File(path) => {
                let name = path.display().to_string();
                let text = fs::read_to_string(path);
                let text = text.map_err(|error| TokenError::File(name.clone(), error))?;
                (text, format!("the content of `{name}`"))
            }
            Token::Command(words) => {
                let program = words.first().map(String::as_str).unwrap_or_default();
                let output = Command::new(program)
                    .args(words.iter().skip(1))
                    .stdin(Stdio::null())
                    .stderr(Stdio::inherit())
                    .output()
                    .map_err(|error| TokenError::Start(program.to_owned(), error))?;
                if !output.status.success() {
                    return Err(TokenError::Failed(program.to_owned(), output.status));
                }
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                (text, format!("the output of `{program}`"))
            }
        };
        let token = text.trim();
        let value = format!("Bearer {token}").parse::<MetadataValue<Ascii>>();
        let is_one = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let (Ok(mut value), true) = (value, is_one) else {
            return Err(TokenError::Invalid(of));
        };
        value.set_sensitive(true);
        *self.value.write().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*value {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_from_a_file_or_a_command_and_is_not_shown() {
        let folder = tempfile::tempdir().expect("there is room");
        let file = folder.path().join("token");
        fs::write(&file, "s3cret\n").expect("it can be written");
        let command = vec!["/bin/cat".to_owned(), file.display().to_string()];
        for from in [Token::File(file.clone()), Token::Command(command)] {
            let mut bearer = Bearer::new(from).expect("there is one");
            let request = bearer.call(Request::new(())).expect("it is allowed");
            let value = request
                .metadata()
                .get("authorization")
                .expect("it is there");
            assert_eq!(value.as_bytes(), b"Bearer s3cret");
            assert!(!format!("{bearer:?}{request:?}").contains("s3cret"));
        }
        fs::write(&file, "two words\n").expect("it can be written");
        let error = Bearer::new(Token::File(file))
            .expect_err("it is none")
            .to_string();
        assert!(
            error.ends_with("is no token: a token is one line of printable characters"),
            "{error}"
        );
        let fails = Token::Command(vec!["/bin/false".to_owned()]);
        let error = Bearer::new(fails).expect_err("there is none").to_string();
        assert_eq!(
            error,
            "`/bin/false`, which prints the token, ended with exit status: 1"
        );
    }
}
