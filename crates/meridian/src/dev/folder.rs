//! The folder of a development cluster: `dev.json` (shape, ports), `secret`, `control.json` while
//! it runs, `lock`, and a folder for each node with `node.toml`, `data` and `log`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use meridian_topology::Shape;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control::{Contact, NodeStatus};
use super::ports::{self, DEFAULT_BASE_PORT, PortChoice, Ports, local};

/// Where a cluster is kept unless something else is said.
pub(crate) const DEFAULT_FOLDER: &str = ".meridian-dev";

/// The variable that says something else.
pub(crate) const FOLDER_VARIABLE: &str = "MERIDIAN_DEV";

const DEFAULT_SHAPE: &str = "three-dc";
const MEMORY: &str = "dev.json";
const CONTROL: &str = "control.json";

/// What the folder remembers over stops.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    version: u8,
    /// A shape's name, or an absolute path.
    shape: String,
    choice: PortChoice,
    base_port: u16,
    ports: BTreeMap<String, Ports>,
}

/// The folder, held by this process alone.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    memory: Memory,
    /// Released by the system when this process ends, however it ends.
    _lock: File,
}

impl Folder {
    /// Takes the folder, creating it where it is not there; empties it first if `fresh`.
    pub(super) fn take(path: &Path, fresh: bool, shape: Option<&str>) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("{} cannot be made", path.display()))?;
        let path = path.canonicalize()?;
        let lock = File::create(path.join("lock"))?;
        if lock.try_lock().is_err() {
            bail!(
                "a cluster runs in {} already; `meridian dev status` shows it, `meridian dev stop` \
                 stops it, --data DIR starts another one elsewhere",
                path.display()
            );
        }
        if fresh {
            clear(&path)?;
        }
        let memory = memory(&path, shape)?;
        Ok(Self { path, memory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn node(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn shape(&self) -> Result<Shape> {
        let key = &self.memory.shape;
        if !is_path(key) {
            return Ok(Shape::named(key)?);
        }
        let text = fs::read_to_string(key)
            .with_context(|| format!("the shape file {key} cannot be read"))?;
        Shape::parse(&text).with_context(|| format!("shape file {key}"))
    }

    /// Ports for every node, all free at this moment, and kept for the next start.
    pub(super) fn choose_ports(
        &mut self,
        names: &[String],
        choice: Option<PortChoice>,
        base: Option<u16>,
    ) -> Result<BTreeMap<String, Ports>> {
        let memory = &mut self.memory;
        memory.choice = choice.or(base.and(Some(PortChoice::Stable))).unwrap_or(memory.choice);
        memory.base_port = base.unwrap_or(memory.base_port);
        memory.ports = ports::choose(memory.choice, memory.base_port, names, &memory.ports)?;
        let text = serde_json::to_string_pretty(memory)?;
        write_private(&self.path.join(MEMORY), &text)?;
        Ok(self.memory.ports.clone())
    }

    /// The cluster's secret: made once, kept with the data that it seals.
    pub(super) fn secret(&self) -> Result<String> {
        let path = self.path.join("secret");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(_) => {
                let text = random_text()?;
                write_private(&path, &text)?;
                Ok(text)
            }
        }
    }

    pub(super) fn write_contact(&self, contact: &Contact) -> Result<()> {
        write_private(&self.path.join(CONTROL), &serde_json::to_string_pretty(contact)?)
    }

    /// Writes a node's configuration; where it is.
    pub(super) fn write_config(
        &self,
        name: &str,
        ports: Ports,
        peers: &BTreeMap<String, String>,
    ) -> Result<PathBuf> {
        let folder = self.node(name);
        fs::create_dir_all(&folder)?;
        let path = folder.join("node.toml");
        write_private(&path, &self.config(name, ports, peers)?)?;
        Ok(path)
    }

    fn config(&self, name: &str, ports: Ports, peers: &BTreeMap<String, String>) -> Result<String> {
        let Ports { links, resp, rest, grpc } = ports;
        let [links, resp, rest, grpc] =
            [links, resp, rest, grpc].map(|port| local(port).to_string());
        let mut sections = vec![
            ("node", vec![("name", name.to_owned()), ("data_dir", "data".to_owned())]),
            (
                "cluster",
                vec![
                    ("name", "dev".to_owned()),
                    ("secret", self.secret()?),
                    ("shape", self.memory.shape.clone()),
                ],
            ),
            ("links", vec![("listen", links)]),
            ("doors", vec![("resp", resp), ("rest", rest), ("grpc", grpc)]),
        ];
        let peers: Vec<_> = peers.iter().map(|(name, at)| (name.as_str(), at.clone())).collect();
        sections.push(("peers", peers));
        let mut text =
            "# Written by `meridian dev` at every start. Change keys with `meridian dev \
                        --set KEY=VALUE`.\n"
                .to_owned();
        for (section, keys) in sections {
            text.push_str(&format!("\n[{section}]\n"));
            for (key, value) in keys {
                // A JSON string is a TOML string.
                text.push_str(&format!("{key} = {}\n", Value::from(value)));
            }
        }
        Ok(text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind it only points at nobody: whoever reads it finds out when it connects.
        let _ = fs::remove_file(self.path.join(CONTROL));
    }
}

/// How to reach the cluster that runs in a folder.
pub(super) fn read_contact(folder: &Path) -> Result<Contact> {
    let path = folder.join(CONTROL);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "no cluster runs in {}; start one with `meridian dev`, or name its folder with --data",
            folder.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// The nodes of the cluster that runs in a folder, for clients; none where nothing runs.
pub(crate) fn running_nodes(folder: &Path) -> Vec<NodeStatus> {
    read_contact(folder).map(|contact| contact.nodes).unwrap_or_default()
}

fn is_path(shape: &str) -> bool {
    Path::new(shape).extension().is_some_and(|ending| ending == "toml")
}

fn memory(folder: &Path, shape: Option<&str>) -> Result<Memory> {
    let path = folder.join(MEMORY);
    let asked = match shape {
        Some(shape) if is_path(shape) => {
            let path = Path::new(shape).canonicalize();
            let path = path.with_context(|| format!("the shape file {shape} cannot be read"))?;
            Some(path.to_string_lossy().into_owned())
        }
        shape => shape.map(str::to_owned),
    };
    let Ok(text) = fs::read_to_string(&path) else {
        let shape = asked.unwrap_or_else(|| DEFAULT_SHAPE.to_owned());
        let (choice, base_port) = (PortChoice::Stable, DEFAULT_BASE_PORT);
        return Ok(Memory { version: 1, shape, choice, base_port, ports: BTreeMap::new() });
    };
    let memory: Memory =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    match asked {
        Some(asked) if asked != memory.shape => bail!(
            "{} holds a cluster of shape {}, not {asked}; leave --shape out, keep the other one \
             elsewhere with --data DIR, or delete this one with --fresh",
            folder.display(),
            memory.shape
        ),
        _ => Ok(memory),
    }
}

/// Empties a folder that a development cluster was kept in, and no other.
fn clear(folder: &Path) -> Result<()> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name != "lock");
    if names.is_empty() {
        return Ok(());
    }
    if !names.iter().any(|name| name == MEMORY) {
        bail!(
            "{} is no folder of `meridian dev`: there is no {MEMORY} in it; nothing was deleted",
            folder.display()
        );
    }
    // The memory goes last, so that a deletion that was interrupted can be repeated.
    names.sort_by_key(|name| name == MEMORY);
    for name in names {
        let path = folder.join(&name);
        let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        gone.with_context(|| format!("{} cannot be deleted", path.display()))?;
    }
    Ok(())
}

fn random_text() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) fn random_token() -> Result<String> {
    random_text()
}

/// A whole new file that only its owner reads: it appears complete or not at all.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&new).and_then(|mut file| file.write_all(text.as_bytes()));
    written
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_once_and_remembers_its_shape() {
        let home = tempfile::tempdir().unwrap();
        let mut folder = Folder::take(home.path(), false, Some("one-node")).unwrap();
        let second = Folder::take(home.path(), false, None).unwrap_err().to_string();
        assert!(second.starts_with("a cluster runs in "), "{second}");
        let names = ["local-1".to_owned()];
        let ports = folder.choose_ports(&names, Some(PortChoice::Auto), None).unwrap();
        assert_eq!(folder.choose_ports(&names, None, None).unwrap(), ports);
        let secret = folder.secret().unwrap();
        drop(folder);
        let other = Folder::take(home.path(), false, Some("three-dc")).unwrap_err().to_string();
        assert!(other.contains("holds a cluster of shape one-node, not three-dc"), "{other}");
        let folder = Folder::take(home.path(), false, None).unwrap();
        assert_eq!(folder.shape().unwrap().name(), "one-node");
        assert_eq!(folder.secret().unwrap(), secret);
        drop(folder);
        let folder = Folder::take(home.path(), true, Some("three-dc")).unwrap();
        assert_ne!(folder.secret().unwrap(), secret);
    }

    #[test]
    fn fresh_deletes_no_folder_of_somebody_else() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("thesis.txt"), "years of work").unwrap();
        let refused = Folder::take(home.path(), true, None).unwrap_err().to_string();
        assert!(refused.contains("nothing was deleted"), "{refused}");
        assert!(home.path().join("thesis.txt").exists());
    }

    #[test]
    fn a_written_configuration_is_a_valid_one() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::take(home.path(), false, Some("three-node")).unwrap();
        let ports = Ports { links: 5_001, resp: 7_001, rest: 8_001, grpc: 9_001 };
        let peers = ["local-2", "local-3"].map(|name| (name.to_owned(), "127.0.0.1:1".to_owned()));
        let config = folder.write_config("local-1", ports, &peers.into()).unwrap();
        let sources =
            meridian_options::Sources { file: Some(config.clone()), ..Default::default() };
        let options = meridian_options::Options::load(&sources).unwrap().options;
        assert_eq!(options.node.name, "local-1");
        assert_eq!(options.node.data_dir, config.with_file_name("data"));
        assert_eq!(options.doors.grpc, Some(local(9_001)));
        assert_eq!(options.peers.len(), 2);
    }
}
