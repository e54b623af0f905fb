//! The classic set-up as README.md has it, word for word: what tests and demos run is what readers copy.

const README: &str = include_str!("../../README.md");

/// How README.md selects its tills.
const PODS: &str = "podSelector: {matchLabels: {app: till}}";

/// The three objects, for pods with `app: till` in namespace `pos`: the first YAML that README.md shows.
pub fn classic() -> &'static str {
    README.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default()
}

/// The same for a host without pods: `source: {cidrs: [networks]}`, as README.md says.
pub fn of_networks(networks: &str) -> String {
    classic().replace(PODS, &format!("cidrs: [{networks}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_set_up_is_the_same_wherever_it_is_shown() {
        let kinds: Vec<&str> = classic().lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
        assert_eq!(kinds, ["PptpAlg", "Service", "IpRule"]);
        assert_eq!(of_networks("10.20.0.0/16"), classic().replace(PODS, "cidrs: [10.20.0.0/16]"));
        assert!(
            README.contains("`source: {cidrs: [10.20.0.0/16]}`")
                && !of_networks("10.20.0.0/16").contains("podSelector")
        );
        let install = include_str!("../../docs/install.md");
        assert!(install.contains(&format!("<<YAML\n{}YAML\n", classic())), "docs/install.md has another one");
        let objects = include_str!("../../docs/objects.md");
        let of_one_server = classic().replace("0.0.0.0/0", "203.0.113.7/32");
        assert!(objects.contains(&format!("```yaml\n{of_one_server}```")), "docs/objects.md has another one");
    }
}
