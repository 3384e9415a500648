//! A running server, as the commands that ask one reach it: by http or https, as an operator or as anybody.
//!
//! - Over https it is believed if its certificate is: by this machine's list, or by a file that is named.
//! - A password had better come from a file: a command line, with an address that has one in it, everybody on the machine can read. No
//!   error shows it.
//! - Nobody is followed elsewhere: a password is for the server that was named.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ureq::Agent;

use crate::access::Secret;
use crate::cli;
use crate::config;
use crate::webhook;

/// The largest answer that is read: some thousand mounts.
const ANSWER_MOST: u64 = 16 * 1024 * 1024;

/// The server did not answer, or not as flumen does.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It did not answer, or with what is nothing of flumen's.
    #[error("{url}: {cause}")]
    Silent {
        /// Where it was to be.
        url: String,
        /// What went wrong.
        cause: Box<ureq::Error>,
    },
    /// It wants to be asked elsewhere.
    #[error("{url}: is to be asked at {elsewhere}: name that with --url if it is the server you mean")]
    Elsewhere {
        /// Where it was to be.
        url: String,
        /// Where it says that it is.
        elsewhere: String,
    },
    /// The address has a name in it, beside a password of its own.
    #[error("--url has a name in it, and there is --password-file: give the name as --user NAME")]
    NameInAddress,
    /// The file with the password is none.
    #[error("--password-file {}: {problem}", .file.display())]
    Password {
        /// Which.
        file: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file with certificates is none.
    #[error("--ca: {0}")]
    Ca(String),
}

/// What a server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A running server.
pub(super) struct Remote {
    url: String,
    /// The same without a password.
    shown: String,
    agent: Agent,
    login: Option<Secret>,
}

impl Remote {
    /// The server that was named, which may take so long for each answer.
    pub(super) fn new(server: &cli::Server, patience: Duration) -> Result<Self, RemoteError> {
        let url = server.url.trim_end_matches('/').to_owned();
        let shown = without_login(&url);
        if shown != url && server.password_file.is_some() {
            return Err(RemoteError::NameInAddress);
        }
        let mut config = Agent::config_builder()
            .timeout_global(Some(patience))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("flumen/", env!("CARGO_PKG_VERSION")));
        if url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
            config = config.tls_config(match &server.ca {
                Some(ca) => webhook::trust_in(ca).map_err(RemoteError::Ca)?,
                None => webhook::trust(),
            });
        }
        let login = server.password_file.as_deref().map(password).transpose()?;
        let login = login.map(|password| {
            let pair = BASE64_STANDARD.encode(format!("{}:{}", server.user, password.reveal()));
            Secret::new(&format!("Basic {pair}"))
        });
        Ok(Self { url, shown, agent: config.build().into(), login })
    }

    /// Asks for a document.
    pub(super) fn get(&self, path: &str) -> Result<Answer, RemoteError> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(login) = &self.login {
            request = request.header("authorization", login.reveal());
        }
        self.answer(request.call())
    }

    /// Gives an order.
    pub(super) fn post(&self, path: &str) -> Result<Answer, RemoteError> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        if let Some(login) = &self.login {
            request = request.header("authorization", login.reveal());
        }
        self.answer(request.send_empty())
    }

    fn answer(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, RemoteError> {
        let mut answer = answer.map_err(|cause| self.silent(cause))?;
        let status = answer.status().as_u16();
        if answer.status().is_redirection() {
            let elsewhere = answer.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or("an address it does not say");
            return Err(RemoteError::Elsewhere { url: self.shown.clone(), elsewhere: elsewhere.to_owned() });
        }
        let text = answer.body_mut().with_config().limit(ANSWER_MOST).read_to_string().map_err(|cause| self.silent(cause))?;
        Ok(Answer { status, text })
    }

    /// What is said of an answer that is none.
    pub(super) fn silent(&self, cause: ureq::Error) -> RemoteError {
        RemoteError::Silent { url: self.shown.clone(), cause: Box::new(cause) }
    }
}

/// The address without the name and password that it may have in it.
fn without_login(url: &str) -> String {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let end = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    url[begin..end].rfind('@').map_or_else(|| url.to_owned(), |at| format!("{}{}", &url[..begin], &url[begin + at + 1..]))
}

fn password(file: &Path) -> Result<Secret, RemoteError> {
    let wrong = |problem: String| RemoteError::Password { file: file.to_owned(), problem };
    let text = config::text_of(file).map_err(|error| wrong(error.to_string()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(wrong("is to hold the password, in one line, and nothing else".to_owned()));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_login() {
        for (url, shown) in [
            ("http://a:1", "http://a:1"),
            ("https://anna:x@a:1/b?c@d", "https://a:1/b?c@d"),
            ("https://an@na:x@a", "https://a"),
            ("http://a/b@c", "http://a/b@c"),
            ("anna@a", "a"),
        ] {
            assert_eq!(without_login(url), shown);
        }
    }
}
