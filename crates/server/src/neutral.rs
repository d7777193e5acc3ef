//! Settings of other servers that have no effect at the value given, so that ignoring them changes no answer.

use serde_json::{Value, json};

/// A value longer than this is taken to have an effect.
const LONGEST: usize = 4096;

/// Whether a field that is not supported changes no answer at this value, given as JSON text.
pub(crate) fn changes_nothing(name: &str, json: &str) -> bool {
    // Fields that name the caller, or tell a server how to store and find answers.
    if let "user"
    | "metadata"
    | "store"
    | "safety_identifier"
    | "prompt_cache_key"
    | "prompt_cache_retention"
    | "cache_prompt"
    | "request_id"
    | "priority" = name
    {
        return true;
    }
    if is_empty(json) {
        return is_neutral_when_empty(name);
    }
    if json.len() > LONGEST {
        return false;
    }
    let Ok(value) = serde_json::from_str::<Value>(json) else {
        return false;
    };
    let number = value.as_f64();
    let text = value.as_str();
    let flag = value.as_bool();
    match name {
        // One answer, and samplers that are off.
        "n" | "best_of" | "num_beams" | "length_penalty" | "typical_p" | "typical" | "tfs"
        | "tfs_z" | "repeat_penalty" | "smoothing_curve" => number == Some(1.0),
        "presence_penalty" | "frequency_penalty" | "min_p" | "top_a" | "mirostat"
        | "mirostat_mode" | "epsilon_cutoff" | "eta_cutoff" | "xtc_probability"
        | "dry_multiplier" | "dynatemp_range" | "smoothing_factor" | "min_tokens"
        | "min_length" | "min_keep" | "top_logprobs" | "prompt_logprobs" => number == Some(0.0),
        "top_n_sigma" | "n_predict" | "id_slot" | "slot_id" => {
            number.is_some_and(|number| number < 0.0)
        }
        "logit_bias" => value
            .as_object()
            .is_some_and(|biases| biases.values().all(|bias| bias.as_f64() == Some(0.0))),
        // Settings of samplers that are off, or of tools, which do not exist.
        "mirostat_tau"
        | "mirostat_eta"
        | "xtc_threshold"
        | "dry_base"
        | "dry_allowed_length"
        | "dry_penalty_last_n"
        | "dry_sequence_breakers"
        | "dynatemp_exponent"
        | "repeat_last_n"
        | "parallel_tool_calls"
        | "parse_tool_calls" => true,
        "tool_choice" | "function_call" => matches!(text, Some("none" | "auto")),
        // The way an answer ends and is shown here, with nothing added.
        "use_beam_search"
        | "early_stopping"
        | "temperature_last"
        | "ignore_eos"
        | "ban_eos_token"
        | "include_stop_str_in_output"
        | "continue_final_message"
        | "add_special_tokens"
        | "echo"
        | "return_tokens_as_token_ids"
        | "return_token_ids"
        | "return_progress"
        | "timings_per_token"
        | "enable_thinking" => flag == Some(false),
        "skip_special_tokens" | "spaces_between_special_tokens" | "add_generation_prompt" => {
            flag == Some(true)
        }
        "logprobs" => flag == Some(false) || number == Some(0.0),
        "modalities" => value == json!(["text"]),
        "response_format" => value["type"] == "text",
        "thinking" => value["type"] == "disabled",
        "reasoning_effort" => text == Some("none"),
        "verbosity" => text == Some("medium"),
        "service_tier" => matches!(text, Some("auto" | "default")),
        _ => false,
    }
}

/// Whether an empty value has no effect. Some fields take effect by being there.
fn is_neutral_when_empty(name: &str) -> bool {
    !matches!(name, "web_search_options" | "audio" | "prediction")
}

/// Whether JSON text is `null`, `""`, `[]` or `{}`.
pub(crate) fn is_empty(json: &str) -> bool {
    let mut bytes = json.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let first = [bytes.next(), bytes.next(), bytes.next()];
    let pair = |open, close| first == [Some(open), Some(close), None];
    json == "null" || json == "\"\"" || pair(b'[', b']') || pair(b'{', b'}')
}

#[cfg(test)]
mod tests {
    use super::changes_nothing;

    #[test]
    fn values_without_effect_pass() {
        for (name, json) in [
            ("logit_bias", "{}"),
            ("logit_bias", "{ \"5\": 0 }"),
            ("tools", "[]"),
            ("functions", "[ ]"),
            ("tool_choice", "\"none\""),
            ("tool_choice", "\"auto\""),
            ("function_call", "\"none\""),
            ("parallel_tool_calls", "true"),
            ("n", "1"),
            ("best_of", "1"),
            ("logprobs", "false"),
            ("top_logprobs", "0"),
            ("modalities", "[\"text\"]"),
            ("response_format", "{\"type\": \"text\"}"),
            ("service_tier", "\"default\""),
            ("min_p", "0.0"),
            ("typical_p", "1"),
            ("tfs_z", "1.0"),
            ("mirostat", "0"),
            ("mirostat_tau", "5.0"),
            ("repeat_penalty", "1.0"),
            ("ignore_eos", "false"),
            ("skip_special_tokens", "true"),
            ("stop_token_ids", "[]"),
            ("store", "false"),
            ("metadata", "{\"a\": \"b\"}"),
            ("guided_json", "null"),
            ("chat_template_kwargs", "{}"),
            ("grammar", "\"\""),
            ("n_predict", "-1"),
        ] {
            assert!(changes_nothing(name, json), "{name}: {json}");
        }
    }

    #[test]
    fn values_with_an_effect_do_not() {
        for (name, json) in [
            ("logit_bias", "{\"5\": 1}"),
            ("tools", "[{}]"),
            ("tool_choice", "\"required\""),
            ("n", "2"),
            ("logprobs", "true"),
            ("top_logprobs", "2"),
            ("modalities", "[\"text\", \"audio\"]"),
            ("response_format", "{\"type\": \"json_object\"}"),
            ("service_tier", "\"flex\""),
            ("min_p", "0.1"),
            ("typical_p", "0.9"),
            ("mirostat", "2"),
            ("ignore_eos", "true"),
            ("repeat_penalty", "1.1"),
            ("stop_token_ids", "[2]"),
            ("web_search_options", "{}"),
            ("n_predict", "128"),
            ("frobnicate", "1"),
        ] {
            assert!(!changes_nothing(name, json), "{name}: {json}");
        }
        let long = format!("[{}0]", "0,".repeat(10_000));
        assert!(!changes_nothing("tools", &long));
    }
}
