//! `docs/configuration.md`, written from the table of keys.

use std::fmt::Write;

use crate::keys::{Default, KEYS, variable};

const HEAD: &str = "\
# Configuration

A node reads three layers, the later wins: a TOML file (`meridian server --config FILE`), the
environment (`MERIDIAN_SECTION__KEY`, two underscores between section and key), and flags
(`--set section.key=value`). `meridian config check` takes the same arguments, prints every key with
its value and where that came from, and says what is wrong with the key's file and line.

A wrong key or value stops the start before anything is opened. Secrets are never printed.

This page is written from the table in `crates/options/src/keys.rs` by `meridian config reference`;
a test keeps it so.

```toml
[node]
name = \"us-1\"
data_dir = \"/var/lib/meridian\"

[cluster]
name = \"shop\"
secret = \"the same long text on every node\"
shape = \"three-dc\"                # a shape that comes with the program, or the path of a .toml file

[links]
listen = \"10.0.0.1:5001\"

[doors]
resp = \"10.0.0.1:7001\"
rest = \"10.0.0.1:8001\"
grpc = \"off\"
password = \"asked for at every door\"
allow_open_listeners = true       # the links have no authentication yet: firewall them

[peers]                           # every other node of the shape: host:port of its links.listen
us-2 = \"10.0.0.2:5001\"
us-3 = \"10.0.0.3:5001\"
# ... eu-1 to ap-3
```

## `peers.<node>`

Where each other node of the shape listens for this one, `host:port`. All of them must be there. An
entry for the node itself is ignored, so that one `[peers]` table serves every node.
";

const TAIL: &str = "
## Memory

A node's memory is at most about `storage.memtables_mb` + `storage.block_cache_mb` + 64 MiB of WAL
buffers + filters and indexes (about 1.7 bytes a stored key) + `limits.connections` × a few KiB for
each door + what is under way between nodes. An idle node uses a fraction of it: memtables grow with
what is written.
";

/// The reference page.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    for key in KEYS {
        let name = key.path.split_once('.').map_or("", |(name, _)| name);
        if name != section {
            section = name;
            put(&mut page, format_args!("\n## `[{name}]`\n"));
        }
        let default = match key.default {
            Default::Text(text) => format!("`\"{text}\"`"),
            Default::Number(_) | Default::Bool(_) => format!("`{}`", key.default),
            Default::Required(_) | Default::Unset => key.default.to_string(),
        };
        put(
            &mut page,
            format_args!(
                "\n### `{}`\n\nDefault: {default}. Allowed: {}. Variable: `{}`.\n\n{}\n",
                key.path,
                key.kind.allowed(),
                variable(key.path),
                key.about
            ),
        );
    }
    page.push_str(TAIL);
    page
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = page.write_fmt(text);
}
