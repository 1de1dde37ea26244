//! Basic authentication, as in Prometheus' web configuration: a user and a bcrypt hash.
//!
//! # What it costs
//!
//! A bcrypt hash is slow on purpose, some 50 ms of a processor. So another thread computes it, one
//! at a time, and correct credentials are remembered (as a keyed digest, never as they came): after
//! the first scrape, each costs microseconds.
//!
//! # What if
//!
//! *Clients guess passwords before a correct one has come*: the newest attempt is hashed next. Each
//! guesser waits for its answer before it guesses again. So a scraper among hundreds of them waits
//! only for the hash that is being computed. *They guess after that*: the one correct pair of user
//! and password is known, so every other pair is wrong, without a hash. Wrong pairs are answered
//! slowly, one after the other, so that many clients guess no faster than one. *The exporter ends
//! meanwhile*: waiting attempts are refused at once.
//! one. *The exporter ends meanwhile*: whatever waits is refused at once.

mod turns;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use metrics_settings::{AuthSettings, Secret};
use turns::Turns;

/// Pause between two answers to wrong passwords when no hash is needed to tell that they are wrong.
const GUESS: Duration = Duration::from_millis(50);

/// The user and password that clients must send.
#[derive(Debug)]
pub(crate) struct BasicAuth {
    username: String,
    password_hash: Secret,
    /// Key of the digests, so that they are useless outside this process.
    key: hmac::Key,
    accepted: Mutex<Option<hmac::Tag>>,
    hashing: Turns,
    guessing: Semaphore,
    is_closed: watch::Sender<bool>,
}

/// The reason why there can be no authentication.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The system gives no random key for the digests of passwords.
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
            hashing: Turns::default(),
            guessing: Semaphore::new(1),
            is_closed: watch::Sender::new(false),
        })
    }

    /// Returns whether these headers contain the correct user and password.
    pub(crate) async fn allows(&self, headers: &HeaderMap) -> bool {
        let Some(credentials) = credentials(headers) else {
            return false;
        };
        let mut closing = self.is_closed.subscribe();
        tokio::select! {
            biased;
            is_right = self.is_right(&credentials) => is_right,
            _ = closing.wait_for(|is_closed| *is_closed) => false,
        }
    }

    /// Refuses all waiting attempts: the exporter ends, or gets another password.
    pub(crate) fn close(&self) {
        self.is_closed.send_replace(true);
    }

    async fn is_right(&self, credentials: &str) -> bool {
        if let Some(is_right) = self.remembered(credentials) {
            return is_right || self.wrong().await;
        }
        let turn = self.hashing.take().await;
        // A correct attempt may have finished while this one waited.
        if let Some(is_right) = self.remembered(credentials) {
            drop(turn);
            return is_right || self.wrong().await;
        }
        let (username, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let password = password.to_owned();
        let hash = self.password_hash.clone();
        // The turn ends with the hash, even if the client is gone before that.
        let verified = tokio::task::spawn_blocking(move || {
            let verified = bcrypt::verify(password, hash.reveal());
            drop(turn);
            verified
        });
        // The hash is computed for a wrong user too, so that the time does not reveal which users
        // exist.
        let is_right = matches!(verified.await, Ok(Ok(true))) && username == self.username;
        if is_right {
            let tag = hmac::sign(&self.key, credentials.as_bytes());
            *self.accepted() = Some(tag);
        }
        is_right
    }

    /// Returns whether they are correct, once the correct ones are known.
    fn remembered(&self, credentials: &str) -> Option<bool> {
        let accepted = self.accepted();
        let tag = accepted.as_ref()?;
        Some(hmac::verify(&self.key, credentials.as_bytes(), tag.as_ref()).is_ok())
    }

    /// Answers a wrong password, after those before it.
    async fn wrong(&self) -> bool {
        // The semaphore is never closed.
        let _turn = self.guessing.acquire().await;
        sleep(GUESS).await;
        false
    }

    fn accepted(&self) -> std::sync::MutexGuard<'_, Option<hmac::Tag>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns `user:password` of `Authorization: Basic` (RFC 7617).
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
    use std::sync::Arc;

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
        // While this test holds the turn, nothing is hashed.
        let _turn = auth.hashing.take().await;
        assert!(auth.allows(&basic("prometheus:secret")).await);
        assert!(!auth.allows(&basic("prometheus:wrong")).await);
    }

    #[tokio::test]
    async fn a_crowd_of_guessers_does_not_keep_the_right_password_out() {
        let auth = Arc::new(auth());
        let turn = auth.hashing.take().await;
        let mut guessers = tokio::task::JoinSet::new();
        for number in 0..300 {
            let auth = Arc::clone(&auth);
            guessers
                .spawn(async move { auth.allows(&basic(&format!("prometheus:{number}"))).await });
        }
        tokio::task::yield_now().await;
        let scraper = {
            let auth = Arc::clone(&auth);
            tokio::spawn(async move { auth.allows(&basic("prometheus:secret")).await })
        };
        tokio::task::yield_now().await;
        drop(turn);
        assert!(scraper.await.unwrap());
        // It was not answered last of three hundred: nearly all of them still wait.
        let mut answered = 0;
        while guessers.try_join_next().is_some() {
            answered += 1;
        }
        assert!(answered < 10, "{answered}");
        // The end of the exporter ends the waiting.
        auth.close();
        let answers = guessers.join_all().await;
        assert!(answers.iter().all(|is_right| !is_right));
    }
}
