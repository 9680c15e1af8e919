//! Damage that is met while the store runs.
//!
//! A file that does not read as it was written is left out by the next start, and what it held is
//! rebuilt (`lost`). Until then reads of it are errors: the node should be started again soon.

use super::*;

impl Store {
    /// Notes the file that an error found to be damaged; whether there is one. It is durable, and
    /// the next start reads that file whole and, if it is damaged, goes on without it and has what
    /// it held rebuilt from the other replicas: see [`Self::must_stop`].
    ///
    /// # Errors
    /// The disk refuses: nothing was noted.
    pub fn note_damage(&self, error: &StoreError) -> Result<bool, StoreError> {
        let Some(file) = error.damaged_file() else { return Ok(false) };
        let mut damage = self.inner.damage.lock();
        let is_noted = self.inner.db.suspect(file)?;
        if is_noted && damage.is_none() {
            *damage = Some(error.to_string());
        }
        Ok(is_noted)
    }

    /// Why the node must stop and be started again, if it must: the engine refuses writes, or a
    /// damaged file was met, by a reader or by a compaction.
    #[must_use]
    pub fn must_stop(&self) -> Option<String> {
        if let Some(error) = self.poisoned() {
            return Some(error.to_string());
        }
        let known = self.inner.damage.lock().clone();
        known.or_else(|| {
            let failure = StoreError::from(self.inner.db.job_failure()?);
            // If it cannot be noted now, it is at the next look: the job fails until then.
            let is_noted = self.note_damage(&failure).unwrap_or(false);
            is_noted.then(|| failure.to_string())
        })
    }
}
