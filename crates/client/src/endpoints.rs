//! The nodes that can be asked, and which of them answer.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use meridian_wire::causes;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use crate::{ClientError, ClientOptions};

/// Bytes that may be on their way to the client: answers with large values come in one go.
const WINDOW_BYTES: u32 = 4 << 20;

/// Time between keep-alives on a connection that carries something.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

pub(crate) struct Endpoints {
    each: Vec<OneEndpoint>,
    avoid: Duration,
}

struct OneEndpoint {
    name: String,
    endpoint: Endpoint,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    channel: Option<Channel>,
    /// Until when all others are asked first.
    avoided_until: Option<Instant>,
}

impl Endpoints {
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, ClientError> {
        if options.endpoints.is_empty() {
            let (endpoint, why) = (String::new(), "there must be at least one".to_owned());
            return Err(ClientError::Endpoint { endpoint, why });
        }
        let each = options.endpoints.iter().map(|name| {
            let bad = |why: String| ClientError::Endpoint { endpoint: name.clone(), why };
            let port = name.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                return Err(bad("there is no port from 1 to 65535".to_owned()));
            }
            let endpoint = Endpoint::from_shared(format!("http://{name}"));
            let endpoint = endpoint
                .map_err(|why| bad(why.to_string()))?
                .connect_timeout(options.connect_timeout)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .tcp_nodelay(true);
            Ok(OneEndpoint { name: name.clone(), endpoint, state: Mutex::default() })
        });
        Ok(Self { each: each.collect::<Result<_, _>>()?, avoid: options.avoid })
    }

    pub(crate) fn name(&self, at: usize) -> &str {
        &self.each[at].name
    }

    /// Whom to ask, if these were asked already: the first that is neither asked nor avoided, or
    /// the first that is not asked, or the first.
    pub(crate) fn choose(&self, asked: &[usize], now: Instant) -> usize {
        let fresh = || (0..self.each.len()).filter(|at| !asked.contains(at));
        let good = fresh().find(|at| !self.state(*at, |state| state.is_avoided(now)));
        good.or_else(|| fresh().next()).unwrap_or(0)
    }

    pub(crate) fn len(&self) -> usize {
        self.each.len()
    }

    /// A connection to an endpoint, made where there is none yet.
    pub(crate) async fn channel(&self, at: usize) -> Result<Channel, ClientError> {
        if let Some(channel) = self.state(at, |state| state.channel.clone()) {
            return Ok(channel);
        }
        match self.each[at].endpoint.connect().await {
            Ok(channel) => {
                self.state(at, |state| {
                    state.avoided_until = None;
                    state.channel = Some(channel.clone());
                });
                Ok(channel)
            }
            Err(why) => {
                self.leave(at, Instant::now());
                let why = format!("{}: {}", self.name(at), causes(&why));
                Err(ClientError::NotReached { why })
            }
        }
    }

    /// Asks all others first for a while, and connects anew then.
    pub(crate) fn leave(&self, at: usize, now: Instant) {
        self.state(at, |state| {
            state.channel = None;
            state.avoided_until = Some(now + self.avoid);
        });
    }

    fn state<T>(&self, at: usize, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.each[at].state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn is_avoided(&self, now: Instant) -> bool {
        self.avoided_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(names: &[&str]) -> Endpoints {
        Endpoints::new(&ClientOptions::new(names.iter().copied())).unwrap()
    }

    #[test]
    fn nodes_are_asked_in_their_order_and_those_that_failed_last() {
        let three = endpoints(&["a:1", "b:1", "c:1"]);
        let now = Instant::now();
        assert_eq!(three.choose(&[], now), 0);
        assert_eq!(three.choose(&[0], now), 1);
        three.leave(0, now);
        assert_eq!(three.choose(&[], now), 1);
        assert_eq!(three.choose(&[1, 2], now), 0);
        assert_eq!(three.choose(&[0, 1, 2], now), 0);
        assert_eq!(three.choose(&[], now + Duration::from_secs(10)), 0);
    }

    #[test]
    fn endpoints_need_a_host_and_a_port() {
        for bad in ["", "localhost", "a b:1", "host:port"] {
            let refused = Endpoints::new(&ClientOptions::new([bad])).err();
            assert!(matches!(refused, Some(ClientError::Endpoint { .. })), "{bad}");
        }
        let none = Endpoints::new(&ClientOptions::new(Vec::<String>::new())).err();
        assert!(matches!(none, Some(ClientError::Endpoint { .. })));
    }
}
