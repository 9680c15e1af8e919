//! The loops that run as long as a node does.

use futures::FutureExt;
use futures::future::{AbortHandle, abortable};

use crate::host::Host;

/// Ends its tasks when it is dropped.
#[derive(Default)]
pub(crate) struct Tasks(Vec<AbortHandle>);

impl Tasks {
    pub(crate) fn spawn(
        &mut self,
        host: &dyn Host,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (task, handle) = abortable(task);
        host.spawn(Box::pin(task.map(drop)));
        self.0.push(handle);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}
