"""The user's class: what it may do, how its operations are found, run and saved. Does no input or output.

Read in this order:

1. `state_machine`: what a user writes, `StateMachine`, `command`, `query`, `compose`;
2. `access`: what a method declares of the keys that it touches and of its callers;
3. `context`: all that a command may learn of the world;
4. `definition`: what is read out of the class: its methods, the types of their arguments, decoders;
   `struct_fields`: fields of structs in arguments that only one side of a call knows;
5. `runner`: one machine and what runs its methods;
6. `nesting`: the same depth for arguments and results on every replica, as `runner` has for recursion;
7. `type_kinds`, `canonical`: what a type is made of, and bytes that are equal where values are;
8. `default_snapshot`, `schema`, `state_digest`: the annotated attributes as bytes, what stands in them, and
   its digest, to be compared; `aliases`: one object in two places, of which a snapshot makes two;
9. `evolution`, `interface`, `in_force`: versions and migrations, what a class defines at one of them, and a
   class whose code defines more than is in force;
10. `behaviour`, `class_traits`, `normal_form`, `code_text`, `constant_text`: what decides results beside the
    interface;
11. `rules`: the ways to be different, by number; `forbidden_calls`: what a command may not call;
   `soundness`: classes that would lose or split state, refused before they serve; `lint`: the same and more
   from the source, reported; `guard`: forbidden calls while a command runs, in tests.

From a class to a result:

- the class is read, once, and refused where it cannot be replicated: `definition.MachineDefinition.of`,
  `definition.Method`, `state_machine.annotated_state`;
- a client encodes a call, a server decodes it: `definition.Method.encode_call`,
  `definition.MachineDefinition.decoder`;
- an entry begins, and the machine has its context: `runner.MachineRunner.begin_entry`;
- a command runs: the closure in `runner.MachineRunner.runners` for the type of its arguments calls the user's
  method (`runner.positional`) and encodes the result or the exception;
- what commands asked to be sent is taken: `runner.MachineRunner.end_entry`,
  `context.Context.take_notifications`;
- a snapshot is taken and restored: `runner.MachineRunner.pieces`, `runner.MachineRunner.restored`,
  `default_snapshot.encode_state`, `default_snapshot.decode_state`.
"""
