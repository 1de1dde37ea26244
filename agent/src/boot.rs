//! The start of an exporter process: the arbiter's first message, and the lock.

use std::os::fd::OwnedFd;
use std::time::Duration;

use metrics_store::{Control, Counter, LinkError, Snapshots, ToArbiter, ToExporter};
use tokio::time::sleep;

use crate::error::StartError;
use crate::link::{AsyncLink, Message};
use crate::state::{Beginning, FilesBoot};

/// Time between two attempts to take the lock of the exporter before; the arbiter kills one that
/// hangs.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Waits for the first message and until no other exporter is active. Also returns the messages
/// that arrive meanwhile; `None` if there is nothing to start, because the arbiter is gone or has
/// changed its mind.
pub async fn boot(link: &mut AsyncLink) -> Result<Option<(Beginning, Vec<Message>)>, StartError> {
    let (boot, descriptors) = match link.receive().await {
        Ok((ToExporter::Boot(boot), descriptors)) => (boot, descriptors),
        Ok((other, _)) => return Err(StartError::Boot(format!("{other:?}"))),
        Err(LinkError::Closed) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Ok([control, first, second]) = <[OwnedFd; 3]>::try_from(descriptors) else {
        return Err(StartError::Boot("boot without them".to_owned()));
    };
    let mut beginning = Beginning {
        settings: serde_json::from_value(boot.settings)?,
        instance: boot.instance,
        facts: boot.facts,
        control: Control::open(control)?,
        snapshots: Snapshots::from_fds(first, second),
        files: None,
    };
    let mut early = Vec::new();
    let mut has_said = false;
    while !beginning.control.try_lock_exporter()? {
        if !std::mem::replace(&mut has_said, true) {
            link.send(&ToArbiter::Waiting);
        }
        tokio::select! {
            () = sleep(TRY_AGAIN) => {}
            message = link.receive() => match message {
                Ok((ToExporter::Ping, _)) => link.send(&ToArbiter::Pong),
                Ok((ToExporter::Shutdown | ToExporter::Replace, _)) => {
                    link.send(&ToArbiter::Bye);
                    return Ok(None);
                }
                Ok(message) => early.push(message),
                Err(LinkError::Closed) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        }
    }
    beginning.control.count(Counter::Exporters);
    beginning.files = FilesBoot::open(&beginning.settings).await;
    Ok(Some((beginning, early)))
}
