//! `mezzo completion SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::print_text;

#[derive(Debug, clap::Args)]
#[command(after_help = "For instance, in ~/.bashrc: source <(mezzo completion bash)")]
pub(crate) struct CompletionArguments {
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn print(arguments: &CompletionArguments) -> Result<(), Failure> {
    print_text(&script(arguments.shell))
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "mezzo", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = script(shell);
            for command in Arguments::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} {}", command.get_name());
            }
        }
    }
}
