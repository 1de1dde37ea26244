//! The protection of the listener: TLS and a password, both replaceable while it is open.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use tokio_rustls::TlsAcceptor;

use crate::auth::{AuthError, BasicAuth};
use crate::tls::{TlsError, TlsFiles};
use metrics_settings::{AuthSettings, Settings};

/// TLS and a password, if they are set. Clones share them. New certificates apply from the next
/// connection on, a new password from the next request on; neither closes a connection.
#[derive(Debug, Clone, Default)]
pub struct Protection {
    current: Arc<RwLock<Rules>>,
}

#[derive(Debug, Clone, Default)]
struct Rules {
    tls: Option<Acceptor>,
    auth: Option<Arc<BasicAuth>>,
}

impl Rules {
    fn close(&self) {
        if let Some(auth) = &self.auth {
            auth.close();
        }
    }
}

/// The reason why the settings cannot protect the listener.
#[derive(Debug, thiserror::Error)]
pub enum ProtectionError {
    /// An error of the certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An error of the password.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl Protection {
    /// Loads the files that the settings name.
    pub fn of(settings: &Settings) -> Result<Self, ProtectionError> {
        let protection = Self::default();
        protection.follow(settings)?;
        Ok(protection)
    }

    /// Replaces the protection with that of new settings; if it fails, the old one stays.
    pub fn follow(&self, settings: &Settings) -> Result<(), ProtectionError> {
        let files = TlsFiles::read(&settings.prometheus.ssl)?;
        let current = Rules {
            tls: files.as_ref().map(Acceptor::new).transpose()?,
            auth: authentication(settings.auth.as_ref())?,
        };
        let before = std::mem::replace(&mut *self.write(), current);
        before.close();
        Ok(())
    }

    /// Refuses attempts that wait for their password to be hashed, because the exporter ends.
    pub(crate) fn close(&self) {
        self.current().close();
    }

    /// Replaces the certificates.
    pub(crate) fn use_certificates(&self, files: &TlsFiles) -> Result<(), ProtectionError> {
        let tls = Acceptor::new(files)?;
        self.write().tls = Some(tls);
        Ok(())
    }

    /// Replaces the user and password, or removes them.
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

    fn write(&self) -> RwLockWriteGuard<'_, Rules> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Rules {
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

/// Its debug form is only its name, because it contains a key.
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
