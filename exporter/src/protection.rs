//! What stands between the listener and the pages: TLS and a password, exchanged while it is open.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use tokio_rustls::TlsAcceptor;

use crate::auth::{AuthError, BasicAuth};
use crate::tls::{TlsError, TlsFiles};
use metrics_settings::{AuthSettings, Settings};

/// TLS and a password, where they are set. Clones are the same: what is replaced counts from the
/// next connection (certificates) and the next request (passwords) on, and breaks none off.
#[derive(Debug, Clone, Default)]
pub struct Protection {
    current: Arc<RwLock<Current>>,
}

#[derive(Debug, Clone, Default)]
struct Current {
    tls: Option<Acceptor>,
    auth: Option<Arc<BasicAuth>>,
}

impl Current {
    fn close(&self) {
        if let Some(auth) = &self.auth {
            auth.close();
        }
    }
}

/// Why the listener cannot be protected as the settings say.
#[derive(Debug, thiserror::Error)]
pub enum ProtectionError {
    /// Of the certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Of the password.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl Protection {
    /// What the settings say, with the files that they name.
    pub fn of(settings: &Settings) -> Result<Self, ProtectionError> {
        let protection = Self::default();
        protection.follow(settings)?;
        Ok(protection)
    }

    /// Puts what the settings say now in the place of what there is; when that fails, that stays.
    pub fn follow(&self, settings: &Settings) -> Result<(), ProtectionError> {
        let files = TlsFiles::read(&settings.prometheus.ssl)?;
        let current = Current {
            tls: files.as_ref().map(Acceptor::new).transpose()?,
            auth: authentication(settings.auth.as_ref())?,
        };
        let before = std::mem::replace(&mut *self.write(), current);
        before.close();
        Ok(())
    }

    /// The exporter ends: attempts that wait for their password to be hashed are refused.
    pub(crate) fn close(&self) {
        self.current().close();
    }

    /// Other certificates.
    pub(crate) fn use_certificates(&self, files: &TlsFiles) -> Result<(), ProtectionError> {
        let tls = Acceptor::new(files)?;
        self.write().tls = Some(tls);
        Ok(())
    }

    /// Another user and password, or none.
    pub(crate) fn use_password(
        &self,
        settings: Option<&AuthSettings>,
    ) -> Result<(), ProtectionError> {
        let auth = authentication(settings)?;
        let before = std::mem::replace(&mut self.write().auth, auth);
        if let Some(before) = before {
            before.close();
        }
        Ok(())
    }

    pub(crate) fn tls(&self) -> Option<TlsAcceptor> {
        let tls = self.current().tls;
        tls.map(|Acceptor(acceptor)| acceptor)
    }

    pub(crate) fn auth(&self) -> Option<Arc<BasicAuth>> {
        self.current().auth
    }

    fn write(&self) -> RwLockWriteGuard<'_, Current> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Current {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn authentication(
    settings: Option<&AuthSettings>,
) -> Result<Option<Arc<BasicAuth>>, ProtectionError> {
    Ok(settings.map(BasicAuth::new).transpose()?.map(Arc::new))
}

/// Shown by its name only: there is a key in it.
#[derive(Clone)]
struct Acceptor(TlsAcceptor);

impl Acceptor {
    fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        files.server_config().map(|config| Self(config.into()))
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TLS")
    }
}
