;; What a call costs before anything is decided about it: the callbacks and host calls of Toolgate for a call of a tool
;; with a token that it knows, with texts of the same lengths, and no work between them. tests/envoy/test_benchmark.py
;; holds the two against each other. Memory is used again from its start for each request, and never given back.
(module
  (import "env" "proxy_get_current_time_nanoseconds" (func $now (param i32) (result i32)))
  (import "env" "proxy_get_header_map_pairs" (func $headers (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define_metric (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 32)

  ;; 0: the time; 8 and 12: place and size of what the host gives; 16: the metric.
  (data (i32.const 64) "source\00address")
  (data (i32.const 96) "response\00code_details")
  (data (i32.const 128) "response\00flags")
  (data (i32.const 160) "toolgate.audit")
  (data (i32.const 192) "authorization")
  (data (i32.const 224) "x-toolgate-issuer")
  (data (i32.const 256) "x-toolgate-subject")
  (data (i32.const 288) "x-toolgate-client")
  (data (i32.const 320) "x-toolgate-scopes")
  (data (i32.const 352) "x-toolgate-roles")
  (data (i32.const 384) "x-toolgate-agent")
  (data (i32.const 416) "x-toolgate-decision")
  (data (i32.const 448) "accept-encoding")
  (data (i32.const 480) "floor.decisions")
  ;; Any value.
  (data (i32.const 512) "abcdefghijklmnopqrstuvwxyzabcdef")

  (global $free (mut i32) (i32.const 65536))

  (func (export "proxy_abi_version_0_2_1"))

  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8)))))

  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (i32.eqz (call $define_metric (i32.const 0) (i32.const 480) (i32.const 15) (i32.const 16))))

  (func (export "proxy_on_context_create") (param i32 i32)
    (global.set $free (i32.const 65536)))

  (func $get (param $path i32) (param $size i32)
    (drop (call $property (local.get $path) (local.get $size) (i32.const 8) (i32.const 12))))

  (func $set (param $name i32) (param $name_size i32) (param $value_size i32)
    (drop
      (call $replace
        (i32.const 0) (local.get $name) (local.get $name_size) (i32.const 512) (local.get $value_size))))

  (func $time
    (drop (call $now (i32.const 0))))

  ;; 1 holds the request until its body is there.
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $headers (i32.const 0) (i32.const 8) (i32.const 12)))
    (call $get (i32.const 64) (i32.const 14))
    (call $time)
    (i32.const 1))

  (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $is_end i32) (result i32)
    (if (i32.eqz (local.get $is_end)) (then (call $time) (return (i32.const 1))))
    (drop (call $buffer (i32.const 0) (i32.const 0) (i32.const 1048577) (i32.const 8) (i32.const 12)))
    (call $time)
    (drop (call $remove (i32.const 0) (i32.const 192) (i32.const 13)))
    (call $set (i32.const 224) (i32.const 17) (i32.const 19))
    (call $set (i32.const 256) (i32.const 18) (i32.const 9))
    (call $set (i32.const 288) (i32.const 17) (i32.const 18))
    (call $set (i32.const 320) (i32.const 17) (i32.const 18))
    (call $set (i32.const 352) (i32.const 16) (i32.const 13))
    (call $set (i32.const 384) (i32.const 16) (i32.const 9))
    (call $set (i32.const 416) (i32.const 19) (i32.const 32))
    (call $set (i32.const 448) (i32.const 15) (i32.const 8))
    (drop (call $increment (i32.load (i32.const 16)) (i64.const 1)))
    (drop (call $set_property (i32.const 160) (i32.const 14) (i32.const 1024) (i32.const 462)))
    (i32.const 0))

  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (drop (call $headers (i32.const 2) (i32.const 8) (i32.const 12)))
    (call $time)
    (i32.const 0))

  (func (export "proxy_on_response_body") (param $context i32) (param $size i32) (param $is_end i32) (result i32)
    (if (local.get $size)
      (then (drop (call $buffer (i32.const 1) (i32.const 0) (local.get $size) (i32.const 8) (i32.const 12)))))
    (i32.const 0))

  (func (export "proxy_on_log") (param i32)
    (call $time)
    (call $get (i32.const 96) (i32.const 21))
    (call $get (i32.const 128) (i32.const 14))
    (drop (call $set_property (i32.const 160) (i32.const 14) (i32.const 1024) (i32.const 1308))))

  (func (export "proxy_on_done") (param i32) (result i32)
    (i32.const 1))

  (func (export "proxy_on_delete") (param i32)))
