//! What a failure says, with what caused it: gRPC and TCP libraries keep the reason in there.

use std::error::Error;

/// An error with what caused it.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Why a call came to nothing: what caused its status, or else what the status says.
#[must_use]
pub fn why(status: &tonic::Status) -> String {
    status.source().map_or_else(|| status.message().to_owned(), causes)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("not reached")]
    struct NotReached(#[source] io::Error);

    #[test]
    fn the_innermost_cause_comes_last() {
        let refused = || NotReached(io::Error::other("refused"));
        assert_eq!(causes(&refused()), "not reached: refused");
        assert_eq!(why(&tonic::Status::from_error(Box::new(refused()))), "not reached: refused");
        assert_eq!(why(&tonic::Status::aborted("said so")), "said so");
    }
}
