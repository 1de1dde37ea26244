//! Basic authentication, as in Prometheus' web configuration: a user and a bcrypt hash.
//!
//! # What it costs
//!
//! A bcrypt hash is slow on purpose, some 50 ms of a processor. So it is computed beside the thread
//! that serves, one at a time, and the credentials that were right are remembered (as a keyed
//! digest, never as they came): a scrape costs microseconds. Wrong ones are not remembered: whoever
//! guesses waits in a line of guessers, and keeps one processor busy at most.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use crate::settings::{AuthSettings, Secret};

/// Who may scrape.
#[derive(Debug)]
pub(crate) struct BasicAuth {
    username: String,
    password_hash: Secret,
    /// Digests of what is remembered are worth nothing outside this process.
    key: hmac::Key,
    accepted: Mutex<Option<hmac::Tag>>,
    one_at_a_time: Arc<Semaphore>,
}

/// There is no randomness, or the hash is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Nothing to tell digests of passwords from guesses with.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

impl BasicAuth {
    pub(crate) fn new(settings: &AuthSettings) -> Result<Self, AuthError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| AuthError::NoRandomness)?;
        Ok(Self {
            username: settings.username.clone(),
            password_hash: settings.password_hash.clone(),
            key,
            accepted: Mutex::default(),
            one_at_a_time: Arc::new(Semaphore::new(1)),
        })
    }

    /// Whether these headers carry the right user and password.
    pub(crate) async fn allows(&self, headers: &HeaderMap) -> bool {
        let Some(credentials) = credentials(headers) else {
            return false;
        };
        if self.is_remembered(&credentials) {
            return true;
        }
        let Ok(_turn) = self.one_at_a_time.acquire().await else {
            return false;
        };
        // Somebody in the line before may have had the same.
        if self.is_remembered(&credentials) {
            return true;
        }
        let (username, password) = credentials.split_once(':').unwrap_or((&credentials, ""));
        let password = password.to_owned();
        let hash = self.password_hash.clone();
        let verified =
            tokio::task::spawn_blocking(move || bcrypt::verify(password, hash.reveal())).await;
        // The hash is computed for a wrong user too, so that the time tells nobody who there is.
        let is_right = matches!(verified, Ok(Ok(true))) && username == self.username;
        if is_right {
            let tag = hmac::sign(&self.key, credentials.as_bytes());
            *self.accepted() = Some(tag);
        }
        is_right
    }

    fn is_remembered(&self, credentials: &str) -> bool {
        self.accepted().as_ref().is_some_and(|tag| {
            hmac::verify(&self.key, credentials.as_bytes(), tag.as_ref()).is_ok()
        })
    }

    fn accepted(&self) -> std::sync::MutexGuard<'_, Option<hmac::Tag>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `user:password` of `Authorization: Basic` (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        encoded.trim().as_bytes(),
    );
    String::from_utf8(bytes.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    // `htpasswd -nbBC 4 prometheus secret`
    const HASH: &str = "$2y$04$";

    fn auth() -> BasicAuth {
        let hash = bcrypt::hash("secret", 4).unwrap();
        BasicAuth::new(&AuthSettings {
            username: "prometheus".to_owned(),
            password_hash: Secret::new(hash.replace("$2b$04$", HASH)),
        })
        .unwrap()
    }

    fn with(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap())])
    }

    fn basic(credentials: &str) -> HeaderMap {
        use base64::Engine;
        let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
        with(&format!("Basic {encoded}"))
    }

    #[tokio::test]
    async fn only_the_right_user_and_password_are_let_in() {
        let auth = auth();
        for (headers, expected) in [
            (basic("prometheus:secret"), true),
            // now it is remembered, and nothing else
            (basic("prometheus:secret"), true),
            (basic("prometheus:Secret"), false),
            (basic("prometheus:"), false),
            (basic("prometheus"), false),
            (basic("somebody:secret"), false),
            (basic(":secret"), false),
            (with("Basic !"), false),
            (with("Bearer cHJvbWV0aGV1czpzZWNyZXQ="), false),
            (with("basic cHJvbWV0aGV1czpzZWNyZXQ="), true),
            (HeaderMap::new(), false),
        ] {
            assert_eq!(auth.allows(&headers).await, expected, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn a_right_password_is_hashed_once() {
        let auth = auth();
        assert!(auth.allows(&basic("prometheus:secret")).await);
        // Without a turn nobody gets to bcrypt.
        let _turn = auth.one_at_a_time.acquire().await.unwrap();
        assert!(auth.allows(&basic("prometheus:secret")).await);
    }
}
