use super::*;

fn version(stamp: u64) -> Version {
    Version { stamp: Hlc(stamp), node: NodeId(1) }
}

fn with(name: &str, policy: ConflictPolicy, stamp: u64) -> Catalog {
    let mut catalog = Catalog::default();
    catalog.create_keyspace("geo", BTreeMap::from([("us".into(), 3)]), version(1)).unwrap();
    let options = TableOptions { policy, ..TableOptions::default() };
    catalog.create_table(&name.parse().unwrap(), options, version(stamp)).unwrap();
    catalog
}

#[test]
fn two_catalogs_join_to_the_same_one_in_either_order() {
    let a = with("geo.cities", ConflictPolicy::Lww, 5);
    let b = with("geo.cities", ConflictPolicy::Siblings, 7);
    let c = with("geo.rivers", ConflictPolicy::Lww, 6);
    let (mut x, mut y) = (a.clone(), c.clone());
    assert!(x.join(&b) && x.join(&c));
    assert!(y.join(&b) && !y.join(&a));
    assert_eq!(x, y);
    let cities = x.table(&"geo.cities".parse().unwrap()).unwrap();
    assert_eq!(cities.options.policy, ConflictPolicy::Siblings);
    assert_eq!(cities.id, a.table(&"geo.cities".parse().unwrap()).unwrap().id);
}

#[test]
fn catalogs_that_were_full_on_both_sides_of_a_cut_can_be_taken_whole() {
    let full = |prefix: &str| {
        let mut catalog = with("geo.cities", ConflictPolicy::Lww, 5);
        while catalog.tables().count() < Catalog::MAX_TABLES {
            let name = format!("geo.{prefix}{}", catalog.tables().count()).parse().unwrap();
            catalog.create_table(&name, TableOptions::default(), version(6)).unwrap();
        }
        catalog
    };
    let (mut both, other) = (full("a"), full("b"));
    assert!(both.join(&other));
    let one_more = "geo.more".parse().unwrap();
    let refused = both.create_table(&one_more, TableOptions::default(), version(7));
    assert_eq!(refused, Err(CatalogError::NoRoom("geo.more".into())));
    let mut taken = Catalog::default();
    for def in both.keyspaces() {
        taken.restore_keyspace(&def.name, def.replication.clone(), def.version).unwrap();
    }
    for def in both.tables() {
        taken.restore_table(&def.name, def.options.clone(), def.version).unwrap();
    }
    assert_eq!(taken, both);
}

/// Two names of which the hashes are the same in their first 32 bits.
fn two_of_one_id() -> [TableName; 2] {
    ["geo.t13093", "geo.t104861"].map(|name| name.parse().unwrap())
}

#[test]
fn of_two_names_with_one_id_the_older_is_used_on_every_node() {
    let [one, two] = two_of_one_id();
    assert_eq!(id_of(one.as_str()), id_of(two.as_str()));
    let (a, b) = (
        with(one.as_str(), ConflictPolicy::Lww, 9),
        with(two.as_str(), ConflictPolicy::Siblings, 5),
    );
    let refused = a.clone().create_table(&two, TableOptions::default(), version(7)).err();
    let same = |name: &TableName, holder: &TableName| {
        CatalogError::same_id(name.as_str(), holder.as_str())
    };
    assert_eq!(refused, Some(same(&two, &one)));
    let (mut x, mut y) = (a.clone(), b.clone());
    assert!(x.join(&b) && y.join(&a));
    assert_eq!(x, y);
    assert_eq!(x.check(), Ok(()), "both are kept");
    let used: Vec<_> = x.tables_in_use().into_values().map(|def| &def.name).collect();
    assert_eq!(used, [&two]);
    assert_eq!((x.why_not_in_use(&two), x.why_not_in_use(&one)), (None, Some(same(&one, &two))));
}

#[test]
fn a_catalog_that_contradicts_itself_is_found_out_and_the_record_is_named() {
    let good = with("geo.cities", ConflictPolicy::Lww, 5);
    assert_eq!(good.check(), Ok(()));
    let cities: TableName = "geo.cities".parse().unwrap();
    let record = |catalog: &Catalog| catalog.check().unwrap_err().0;
    let mut bad = good.clone();
    bad.tables.get_mut(&cities).unwrap().id.0 ^= 1;
    assert_eq!(record(&bad), "geo.cities");
    let mut bad = good.clone();
    bad.tables.get_mut(&cities).unwrap().name = "geo.rivers".parse().unwrap();
    assert_eq!(record(&bad), "geo.cities");
    let mut bad = good.clone();
    bad.keyspaces.get_mut("geo").unwrap().replication.clear();
    assert_eq!(record(&bad), "geo");
    let mut bad = good;
    bad.keyspaces.clear();
    assert_eq!(record(&bad), "geo.cities");
}

#[test]
fn every_compaction_is_called_the_same_at_every_door() {
    for compaction in Compaction::EVERY {
        assert_eq!(compaction.name().parse(), Ok(compaction));
    }
    let told = "sideways".parse::<Compaction>().unwrap_err().to_string();
    assert!(told.contains("`sideways` is no compaction; use one of leveled"), "{told}");
}

#[test]
fn refuses_what_is_taken_or_has_no_keyspace() {
    let mut catalog = with("geo.cities", ConflictPolicy::Lww, 5);
    let cities = "geo.cities".parse().unwrap();
    let again = catalog.create_table(&cities, TableOptions::default(), version(9));
    assert_eq!(again, Err(CatalogError::Exists("geo.cities".into())));
    let orphan = "x.y".parse().unwrap();
    let orphan = catalog.create_table(&orphan, TableOptions::default(), version(9));
    assert_eq!(orphan, Err(CatalogError::NoKeyspace("x".into())));
    let empty = catalog.create_keyspace("e", BTreeMap::new(), version(9));
    assert_eq!(empty, Err(CatalogError::NoReplicas("e".into())));
}
