use super::*;

#[test]
fn settings_at_their_bounds_are_taken_and_one_beyond_refused() {
    let maglev = |percent| MaglevSettings::new(HashOn::Path, percent).err();
    for (percent, fault) in [
        (None, None),
        (Some(101), None),
        (Some(1000), None),
        (Some(100), Some(SettingsFault::BoundedLoad)),
        (Some(1001), Some(SettingsFault::BoundedLoad)),
    ] {
        assert_eq!(maglev(percent), fault, "{percent:?}");
    }
    let lard = |low, high, targets| LardSettings::new(HashOn::Url, low, high, targets).err();
    assert_eq!(lard(1, 2, 64), None);
    assert_eq!(lard(999_999, 1_000_000, 1_048_576), None);
    for (low, high) in [(0, 2), (2, 2), (3, 2), (1, 1_000_001)] {
        assert_eq!(lard(low, high, 64), Some(SettingsFault::Thresholds), "{low} {high}");
    }
    for targets in [0, 63, 1_048_577] {
        assert_eq!(lard(1, 2, targets), Some(SettingsFault::Targets), "{targets}");
    }
    let replicated = |seconds| LardReplicatedSettings::new(LardSettings::default(), seconds).err();
    assert_eq!([replicated(1), replicated(86_400)], [None; 2]);
    assert_eq!([replicated(0), replicated(86_401)], [Some(SettingsFault::Replicate); 2]);
    let candidates = |count| ContentAndLoadSettings::new(HashOn::Path, count).err();
    assert_eq!([candidates(2), candidates(8)], [None; 2]);
    assert_eq!([candidates(1), candidates(9)], [Some(SettingsFault::Candidates); 2]);
}

#[test]
fn trees_at_their_bounds_are_taken_and_one_beyond_refused() {
    let tree = |depth, interval, subtrees, known| {
        RaccSettings::new(depth, interval, subtrees, RaccCost::Requests, known).err()
    };
    let known = |paths: &[&str]| -> Vec<KnownSubtree> {
        paths.iter().map(|path| KnownSubtree::new(path, 1, 1).expect("a good path")).collect()
    };
    assert_eq!(tree(1, 1, 64, known(&["/a", "/b/"])), None);
    assert_eq!(tree(8, 3600, 1_048_576, vec![]), None);
    assert_eq!([tree(0, 1, 64, vec![]), tree(9, 1, 64, vec![])], [Some(SettingsFault::Depth); 2]);
    assert_eq!([tree(1, 0, 64, vec![]), tree(1, 3601, 64, vec![])], [Some(SettingsFault::Interval); 2]);
    assert_eq!([tree(1, 1, 63, vec![]), tree(1, 1, 1_048_577, vec![])], [Some(SettingsFault::Subtrees); 2]);
    let many: Vec<String> = (0..1025).map(|number| format!("/{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(tree(1, 1, 64, known(&many[..33])), Some(SettingsFault::Subtrees));
    assert_eq!(tree(1, 1, 4096, known(&many)), Some(SettingsFault::Subtrees));
    assert_eq!(tree(1, 1, 64, known(&["/a/b"])), Some(SettingsFault::SubtreeDepth));
    assert_eq!(tree(1, 1, 64, known(&["/b", "/a", "/b/"])), Some(SettingsFault::SubtreeTwice));
}

#[test]
fn subtrees_that_no_path_leads_to_are_refused() {
    for path in ["", "a", "/", "//", "/a//b", "/a?b", "/a#b", &format!("/{}", "a".repeat(1024))] {
        assert_eq!(KnownSubtree::new(path, 1, 1), Err(SettingsFault::SubtreePath), "{path}");
    }
    assert_eq!(KnownSubtree::new("/a", 1, 0), Err(SettingsFault::SubtreeCost));
    assert_eq!(KnownSubtree::new("/a", 1, 1001), Err(SettingsFault::SubtreeCost));
    assert_eq!(KnownSubtree::new("/a/", 1, 1000), KnownSubtree::new("/a", 1, 1000), "one way to say it");
}
