//! One connection: reads, starts what may start, keeps the answers in order, writes.
//!
//! Answers are written once for each batch that was read, not one by one: with sixteen commands in
//! a pipeline that is the difference between one system call and sixteen. A batch that waits for
//! other nodes does not hold back finished answers for longer than [`FLUSH_AFTER`].

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use meridian_service::{CallContext, Service};
use meridian_types::RequestId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::action::{Action, Work};
use super::args::Args;
use super::clients::Client;
use super::command::{Desk, understand};
use super::execute::Executor;
use super::frame::{Frame, FrameError, FrameLimits, Parser};
use super::pipeline::{Claim, Envelope, KEYS_BESIDE_OTHERS, Pipeline};
use super::reply::Reply;
use super::session::{Answers, Session};
use crate::listener::Hall;

/// Bytes that a read has room for at least.
const READ_BYTES: usize = 16 << 10;
/// An empty buffer larger than this is given back while the client is silent.
const KEEP_BYTES: usize = 64 << 10;
/// Bytes of answers from which on they are written before another command is started.
const FLUSH_BYTES: usize = 256 << 10;
/// How long finished answers wait for the rest of their batch.
const FLUSH_AFTER: Duration = Duration::from_millis(1);
/// Arguments, and bytes of each, before the password was shown: enough for `HELLO`.
const STRANGER_ARGS: usize = 16;
/// See [`STRANGER_ARGS`].
const STRANGER_ARG_BYTES: usize = 16 << 10;
/// Bytes that are still taken from a client whose input made no sense: closing at once would
/// throw away the error that it was just sent.
const LINGER_BYTES: usize = 64 << 20;
/// How long such a client may take.
const LINGER_FOR: Duration = Duration::from_secs(5);

/// Serves one client until it leaves, breaks the protocol, or the node stops.
pub(super) async fn serve<S: Service>(
    mut stream: TcpStream,
    peer: SocketAddr,
    executor: Arc<Executor<S>>,
    hall: Hall,
) {
    let client = Client {
        peer,
        name: String::new(),
        library: String::new(),
        library_version: String::new(),
        database: "0".to_owned(),
        protocol: 2,
    };
    let id = executor.clients.enter(client);
    match Session::new(id, &executor.front.options) {
        Ok(session) => {
            let mut connection = Connection::new(&executor, session);
            if let Err(error) = connection.talk(&mut stream, &hall).await {
                tracing::debug!(%peer, "a client left: {error}");
            }
            connection.finish().await;
            if connection.broken {
                hall.metrics.malformed.inc();
                linger(&mut stream).await;
            }
        }
        Err(error) => tracing::error!("the databases of the RESP door: {error}"),
    }
    executor.clients.leave(id);
}

/// Reads on for a moment, so that the client comes to read the error.
async fn linger(stream: &mut TcpStream) {
    let drained = async {
        stream.shutdown().await?;
        let mut sink = vec![0; READ_BYTES];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut sink).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok::<_, io::Error>(())
    };
    // Whether it did or did not in time, the connection ends now.
    let _ = tokio::time::timeout(LINGER_FOR, drained).await;
}

/// Whole commands that were cut off the buffer together.
#[derive(Default)]
struct Batch {
    block: Bytes,
    spans: Vec<Range<usize>>,
    frames: VecDeque<Frame>,
    /// The spans of the next frame start here.
    at: usize,
}

/// Work that is understood, with all that it took from the session.
struct Order {
    envelope: Envelope,
    context: CallContext,
    database: Option<u8>,
    work: Work,
}

struct Connection<'a, S> {
    executor: &'a Executor<S>,
    session: Session,
    pipeline: Pipeline<'a>,
    parser: Parser,
    limits: FrameLimits,
    input: BytesMut,
    output: BytesMut,
    batch: Batch,
    /// Waits for a command before it.
    waiting: Option<Order>,
    keys: Vec<u64>,
    /// Ids of this connection's requests count up from a random one.
    next_id: u128,
    /// What could not be understood; answered after everything before it.
    fault: Option<FrameError>,
    /// Whether more may come in.
    reading: bool,
    /// Whether the client broke the protocol.
    broken: bool,
}

impl<'a, S: Service> Connection<'a, S> {
    fn new(executor: &'a Executor<S>, session: Session) -> Self {
        let limits = executor.front.limits();
        let limits = FrameLimits {
            args: limits.data.batch_keys * 2 + 8,
            arg_bytes: limits.data.value_bytes,
            inline_bytes: limits.inline_bytes,
            command_bytes: limits.request_bytes,
        };
        Self {
            executor,
            session,
            pipeline: Pipeline::new(),
            parser: Parser::default(),
            limits,
            input: BytesMut::new(),
            output: BytesMut::new(),
            batch: Batch::default(),
            waiting: None,
            keys: Vec::new(),
            next_id: Uuid::now_v7().as_u128(),
            fault: None,
            reading: true,
            broken: false,
        }
    }

    async fn talk(&mut self, stream: &mut TcpStream, hall: &Hall) -> io::Result<()> {
        let stopping = hall.stopping.child_token();
        let (mut reader, mut writer) = stream.split();
        let mut flush_at: Option<Instant> = None;
        loop {
            poll_fn(|cx| {
                self.advance(cx);
                Poll::Ready(())
            })
            .await;
            self.make_room();
            if self.pipeline.is_idle() {
                flush_at = None;
                if !self.output.is_empty() {
                    writer.write_all_buf(&mut self.output).await?;
                } else if self.reading {
                    tokio::select! {
                        biased;
                        read = reader.read_buf(&mut self.input) => self.reading = read? > 0,
                        () = stopping.cancelled() => self.reading = false,
                    }
                } else {
                    return Ok(());
                }
                continue;
            }
            if self.output.is_empty() {
                flush_at = None;
            } else {
                flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
            }
            let full = self.output.len() >= FLUSH_BYTES;
            let due = full || flush_at.is_some_and(|at| at <= Instant::now());
            let may_read = self.reading && self.waiting.is_none() && !self.is_full() && !full;
            let Self { pipeline, input, output, reading, .. } = self;
            tokio::select! {
                biased;
                () = poll_fn(|cx| pipeline.poll_ended(cx)) => {}
                written = writer.write_buf(output), if due => {
                    if written? == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                }
                read = reader.read_buf(input), if may_read => *reading = read? > 0,
                () = tokio::time::sleep_until(flush_at.unwrap_or_else(Instant::now)),
                    if flush_at.is_some() && !due => {}
                () = stopping.cancelled(), if *reading => *reading = false,
            }
        }
    }

    /// Lets what runs come to its end although nobody reads the answers: a write that was begun
    /// goes on to all its replicas. Takes as long as the requests' timeouts at most.
    async fn finish(&mut self) {
        while !self.pipeline.is_idle() {
            poll_fn(|cx| self.pipeline.poll_ended(cx)).await;
        }
    }

    fn is_full(&self) -> bool {
        self.pipeline.len() >= self.executor.front.limits().pipeline
    }

    /// Room for the next read; buffers that were needed once only are given back.
    fn make_room(&mut self) {
        if self.output.is_empty() && self.output.capacity() > FLUSH_BYTES {
            self.output = BytesMut::new();
        }
        if self.input.is_empty() && self.input.capacity() > KEEP_BYTES {
            self.input = BytesMut::new();
        }
        if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
            self.input.reserve(READ_BYTES);
        }
    }

    /// Collects finished answers and starts commands until one has to wait, or until there are as
    /// many, or as much to write, as there may be.
    fn advance(&mut self, cx: &mut Context<'_>) {
        self.pipeline.write_answers(&mut self.output);
        while self.output.len() < FLUSH_BYTES && !self.is_full() {
            if let Some(order) = self.waiting.take() {
                if self.pipeline.must_wait(&order.work) {
                    self.waiting = Some(order);
                    return;
                }
                self.start(cx, order);
            } else if let Some(frame) = self.batch.frames.pop_front() {
                self.handle(cx, &frame);
            } else if let Some(fault) = self.fault.take() {
                self.broken = true;
                let reply = Reply::Error(format!("ERR {fault}"));
                self.pipeline.answer(self.envelope(false), reply, &mut self.output);
                self.hang_up();
            } else if !self.parse() {
                return;
            }
        }
    }

    fn envelope(&self, silent: bool) -> Envelope {
        Envelope { protocol: self.session.protocol, silent }
    }

    /// Takes nothing more from the client.
    fn hang_up(&mut self) {
        self.reading = false;
        self.batch = Batch::default();
        self.input.clear();
    }

    /// Cuts whole commands off the input; whether there is something to do.
    fn parse(&mut self) -> bool {
        let (limits, most) = if self.session.authenticated {
            (self.limits, self.executor.front.limits().pipeline.max(1))
        } else {
            // What follows `AUTH` in the same packet is read with the limits of those inside.
            let stranger =
                FrameLimits { args: STRANGER_ARGS, arg_bytes: STRANGER_ARG_BYTES, ..self.limits };
            (stranger, 1)
        };
        while self.batch.frames.len() < most {
            match self.parser.next(&self.input, &limits) {
                Ok(Some(Frame::Empty)) => {}
                Ok(Some(frame)) => self.batch.frames.push_back(frame),
                Ok(None) => break,
                Err(fault) => {
                    self.fault = Some(fault);
                    break;
                }
            }
        }
        self.batch.at = 0;
        self.batch.block = self.input.split_to(self.parser.whole()).freeze();
        self.parser.cut(&mut self.batch.spans);
        !self.batch.frames.is_empty() || self.fault.is_some()
    }

    fn handle(&mut self, cx: &mut Context<'_>, frame: &Frame) {
        let args = match frame {
            Frame::Array(count) => {
                let from = self.batch.at;
                self.batch.at += count;
                let spans = self.batch.spans.get(from..self.batch.at).unwrap_or_default();
                Args::Spans { block: &self.batch.block, spans }
            }
            Frame::Inline(words) => Args::Words(words),
            Frame::Empty => return,
        };
        let before = self.session.answers;
        let action = understand(
            &mut Desk {
                session: &mut self.session,
                options: &self.executor.front.options,
                clients: &self.executor.clients,
            },
            args,
        );
        let silent = match before {
            Answers::On => false,
            Answers::Off => self.session.answers == Answers::Off,
            Answers::SkipNext => {
                self.session.answers = Answers::On;
                true
            }
        };
        let envelope = self.envelope(silent);
        match action {
            Ok(Action::Run(work)) => self.order(cx, envelope, work),
            Ok(Action::Reply(reply)) => self.pipeline.answer(envelope, reply, &mut self.output),
            Ok(Action::Quit) => {
                self.pipeline.answer(envelope, Reply::OK, &mut self.output);
                self.hang_up();
            }
            Err(error) => self.pipeline.answer(envelope, error.into(), &mut self.output),
        }
    }

    fn order(&mut self, cx: &mut Context<'_>, envelope: Envelope, work: Work) {
        self.next_id = self.next_id.wrapping_add(1);
        let id = RequestId(Uuid::from_u128(self.next_id));
        let context = self.executor.front.context(Some(id), None);
        let order = Order { envelope, context, database: self.session.database, work };
        if self.pipeline.must_wait(&order.work) {
            self.waiting = Some(order);
        } else {
            self.start(cx, order);
        }
    }

    fn start(&mut self, cx: &mut Context<'_>, order: Order) {
        let Order { envelope, context, database, work } = order;
        self.keys.clear();
        work.each_key(|key| {
            if self.keys.len() <= KEYS_BESIDE_OTHERS {
                self.keys.push(xxh3_64(key));
            }
        });
        let claim = Claim { keys: &self.keys, writes: work.writes() };
        let executor = self.executor;
        let run = executor.run(context, database, work);
        self.pipeline.start(cx, envelope, claim, run, &mut self.output);
    }
}
