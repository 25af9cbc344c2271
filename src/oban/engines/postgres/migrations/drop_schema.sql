-- The schema itself, if nothing else is in it and it is ours to drop.

do $$ begin
  drop schema if exists {prefix};
exception when dependent_objects_still_exist or insufficient_privilege then
  null;
end $$;
