//! Training records in the forms that people bring.

/// One record of every kind: a picture, none, two, a system prompt of its own, content parts, an instruction.
pub const RECORDS: [&str; 6] = [
    r#"{"id":"r0","image":"images/0.jpg","conversations":[{"from":"human","value":"Describe the light.\n<image>"},{"from":"gpt","value":"It falls from the left."}]}"#,
    r#"{"id":"t0","image":"","conversations":[{"from":"user","value":"What is a still life?"},{"from":"assistant","value":"A picture of things on a table."},{"from":"user","value":"Where is it?"},{"from":"assistant","value":"In a room."}]}"#,
    r#"{"id":"s0","image":["images/1.jpg","images/2.jpg"],"conversations":[{"from":"human","value":"Compare <image> with <image>."},{"from":"gpt","value":"The first is red."}]}"#,
    r#"{"id":"y0","image":"images/3.jpg","conversations":[{"from":"system","value":"You look at light only."},{"from":"human","value":"<image>\nDescribe the light."},{"from":"gpt","value":"It is warm."}]}"#,
    r#"{"id":"p0","images":["images/4.jpg"],"messages":[{"role":"user","content":[{"type":"image"},{"type":"text","text":"Describe the light."}]},{"role":"assistant","content":[{"type":"text","text":"It is warm."}]}]}"#,
    r#"{"id":"i0","instruction":"What is a landscape?","input":"","output":"A picture of land."}"#,
];
